import json
from pathlib import Path

import pytest

from temper import artifacts


def make(root: Path, stage: str, content: str = "x", **made_from: str) -> artifacts.Artifact:
    folder = root / stage
    folder.mkdir(exist_ok=True)
    (folder / "data.txt").write_text(content)
    return artifacts.write(stage, folder, made_from=made_from, params="p", code="c", facts={"n": 1})


def test_what_was_written_is_loaded(tmp_path: Path):
    made = make(tmp_path, "prepare")
    assert artifacts.load("prepare", tmp_path / "prepare") == made
    assert made.path("data.txt").read_text() == "x"


def test_equal_contents_have_equal_digests(tmp_path: Path):
    digests = []
    for name, content in (("a", "x"), ("b", "x"), ("c", "y")):
        (tmp_path / name).mkdir()
        digests.append(make(tmp_path / name, "prepare", content).digest)
    assert digests[0] == digests[1] != digests[2]


def test_a_missing_or_unfinished_one_names_the_way_out(tmp_path: Path):
    with pytest.raises(ValueError, match=r"prepare does not exist; run `make pipeline`"):
        artifacts.load("prepare", tmp_path / "prepare")
    (tmp_path / "prepare").mkdir()
    with pytest.raises(ValueError, match=r"is unfinished"):
        artifacts.load("prepare", tmp_path / "prepare")


@pytest.mark.parametrize("damage", ["flip", "delete", "edit", "cut", "stage"])
def test_damage_is_found_and_named(tmp_path: Path, damage: str):
    make(tmp_path, "prepare")
    data, record = tmp_path / "prepare" / "data.txt", tmp_path / "prepare" / "artifact.json"
    if damage == "flip":
        data.write_text("y")
    elif damage == "delete":
        data.unlink()
    elif damage == "edit":
        tree = json.loads(record.read_text())
        tree["facts"]["n"] = 2
        record.write_text(json.dumps(tree))
    elif damage == "cut":
        record.write_text(record.read_text()[:50])
    match = {
        "flip": r"data.txt is damaged",
        "delete": r"data.txt is missing",
        "edit": r"artifact.json was edited",
        "cut": r"artifact.json is damaged",
        "stage": r"made by stage 'prepare', expected 'train'",
    }[damage]
    with pytest.raises(ValueError, match=match + r".*make pipeline"):
        artifacts.load("train" if damage == "stage" else "prepare", tmp_path / "prepare")


def test_another_parent_is_found(tmp_path: Path):
    parent = make(tmp_path, "prepare")
    make(tmp_path, "augment", prepare=parent.digest)
    artifacts.load("augment", tmp_path / "augment")
    make(tmp_path, "prepare", "other")
    with pytest.raises(ValueError, match=r"was made from prepare [0-9a-f]{12}, but .* is [0-9a-f]{12}; run"):
        artifacts.load("augment", tmp_path / "augment")


def test_an_unknown_file_names_the_known_ones(tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds no file 'nothing'; it holds data.txt"):
        make(tmp_path, "prepare").path("nothing")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = tmp_path / "file"
    artifacts.write_atomically(path, "old")

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        artifacts.write_atomically(path, "new")
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert path.read_text() == "old"
