"""What goes wrong at the door: one paragraph, no traceback, nothing half-written."""

import errno
import io
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper import artifacts, cli
from temper.config import load
from temper.stages.fit_network import train_network
from tests.project import ROOT, make_project

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call the door as the command line does; gives the exit status and what was said on stderr."""

    def call(project: Path, *stages: str) -> tuple[int, str]:
        for stage in stages:
            monkeypatch.setattr(sys, "argv", ["temper", stage, "--project", str(project)])
            try:
                cli.main()
            except SystemExit as end:
                if end.code:
                    return int(str(end.code)), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return call


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A project whose pictures lie in class-named folders: grey and colour, PNG and JPEG, of different sizes."""
    project = make_project(tmp_path / "project", "multiclass")
    text = (project / "params.yaml").read_text()
    start = text.index("ingest: {")
    text = text[:start] + "ingest: {source: imagefolder, folder: pictures}" + text[text.index("\n", start) :]
    (project / "params.yaml").write_text(text)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (project / "pictures" / name).mkdir(parents=True)
        for number in range(24):
            shape = (20 + number, 30) if number % 3 else (18, 18 + number, 3)
            picture = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
            picture.save(project / "pictures" / name / f"{number}.{'png' if number % 2 else 'jpg'}")
    return project


def assert_refused(project: Path, outcome: tuple[int, str], stage: str, *words: str) -> None:
    code, said = outcome
    assert code == 2
    assert "Traceback" not in said
    paragraph = said[said.index("error: ") :].strip()
    assert "\n" not in paragraph
    for word in words:
        assert word in paragraph
    assert not (project / "artifacts" / stage).exists()


def test_mixed_pictures_of_any_size_go_through(pictures: Path, run: Run):
    assert run(pictures, "ingest", "prepare", "augment")[0] == 0
    assert np.load(pictures / "artifacts/prepare/train/image.npy").shape[1:] == (16, 16, 3)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed: 0", "sed: 0", ("params.yaml", "unknown key sed", "'seed'")),
        ("epochs: 2", "epochs: two", ("train.fit.epochs = 'two'", "valid integer")),
        ("folder: pictures", "folder: nowhere", ("nowhere",)),
    ],
)
def test_mistakes_in_params(pictures: Path, run: Run, old: str, new: str, words: tuple[str, ...]):
    text = (pictures / "params.yaml").read_text()
    (pictures / "params.yaml").write_text(text.replace(old, new, 1))
    assert_refused(pictures, run(pictures, "ingest"), "ingest", *words)


def test_an_empty_class(pictures: Path, run: Run):
    (pictures / "pictures" / "yak").mkdir()
    assert_refused(pictures, run(pictures, "ingest"), "ingest", "yak")


def test_one_class_only(pictures: Path, run: Run):
    for name in ("dog", "owl"):
        for path in (pictures / "pictures" / name).iterdir():
            path.unlink()
        (pictures / "pictures" / name).rmdir()
    assert_refused(pictures, run(pictures, "ingest", "prepare"), "prepare", "cat")


def test_a_class_too_small_for_every_split(pictures: Path, run: Run):
    for path in sorted((pictures / "pictures" / "owl").iterdir())[2:]:
        path.unlink()
    assert_refused(pictures, run(pictures, "ingest", "prepare"), "prepare", "owl")


BAD = {
    "a zero-byte file": b"",
    "a file that is no picture": b"just words",
    "a truncated picture": None,
    "a picture 30,000 px wide": None,
}


def spoil(name: str) -> bytes:
    if BAD[name] is not None:
        return BAD[name]  # type: ignore[return-value]
    stream = io.BytesIO()
    shape = (10, 30_000) if "30,000" in name else (40, 40)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue() if "30,000" in name else stream.getvalue()[:200]


@pytest.mark.parametrize("name", BAD)
def test_bad_pictures_are_named_and_too_many_stop(pictures: Path, run: Run, name: str):
    (pictures / "pictures" / "cat" / "bad.png").write_bytes(spoil(name))
    # One of 73 is more than the default 1 %.
    assert_refused(pictures, run(pictures, "ingest", "prepare"), "prepare", " pictures/cat/bad.png: ", "max_bad_share")
    text = (pictures / "params.yaml").read_text()
    (pictures / "params.yaml").write_text(text.replace("prepare: {", "prepare: {max_bad_share: 0.05, "))
    assert run(pictures, "prepare")[0] == 0
    assert "cat/bad.png" in (pictures / "artifacts/prepare/dropped.csv").read_text()
    assert "<td>cat/bad.png</td>" in (pictures / "artifacts/prepare/report.html").read_text()


@pytest.mark.parametrize("absolute", [False, True])
def test_messages_name_the_pictures_where_the_user_put_them(pictures: Path, run: Run, absolute: bool):
    folder = str(pictures / "pictures") if absolute else "../project/pictures"
    text = (pictures / "params.yaml").read_text().replace("folder: pictures", f"folder: {folder}")
    text = text.replace("kind: multiclass", "kind: multiclass, classes: [cat, dog]")
    (pictures / "params.yaml").write_text(text)
    assert_refused(pictures, run(pictures, "ingest", "prepare"), "prepare", f"'owl' of {folder}/owl/0.jpg is not among")


def test_messages_name_the_pictures_of_a_table(pictures: Path, run: Run):
    lines = ["path,labels"] + [f"../pictures/{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(1, 24, 2)]
    (pictures / "lists").mkdir()
    (pictures / "lists/all.csv").write_text("\n".join([*lines, "bad.png,cat"]))
    (pictures / "lists/bad.png").write_bytes(b"words")
    text = (pictures / "params.yaml").read_text()
    text = text.replace("source: imagefolder, folder: pictures", "source: table, file: lists/all.csv")
    (pictures / "params.yaml").write_text(text)
    assert_refused(pictures, run(pictures, "ingest", "prepare"), "prepare", " lists/bad.png: not a picture")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("stage", ["augment", "train"])
@pytest.mark.parametrize("name", ["train/image.npy", "train/label.npy", "rows.parquet"])
def test_a_picture_or_a_label_that_changed_after_prepare_is_named(pictures: Path, run: Run, name: str, stage: str):
    assert run(pictures, "ingest", "prepare", *(["augment"] if stage == "train" else []))[0] == 0
    flip(pictures / "artifacts/prepare" / name)
    words = (f"artifacts/prepare/{name} is damaged", "SHA-256", "delete", "`make pipeline`")
    assert_refused(pictures, run(pictures, stage), stage, *words)


@pytest.mark.parametrize("name", ["pictures.zip", "rows.parquet"])
def test_raw_data_that_changed_after_ingest_are_named(pictures: Path, run: Run, name: str):
    assert run(pictures, "ingest")[0] == 0
    flip(pictures / "artifacts/ingest" / name)
    words = (f"artifacts/ingest/{name} is damaged", "SHA-256", "delete", "`make pipeline`")
    assert_refused(pictures, run(pictures, "prepare"), "prepare", *words)


@pytest.mark.parametrize("stage", ["train", "distill"])
def test_a_batch_larger_than_an_epoch_names_its_key_and_the_way_out(pictures: Path, run: Run, stage: str):
    assert run(pictures, "ingest", "prepare", "augment")[0] == 0
    inputs = {name: artifacts.load(name, pictures / "artifacts" / name) for name in ("prepare", "augment")}
    params = getattr(load(pictures), stage)
    params = replace(params, fit=replace(params.fit, batch_size=512))
    drawn = inputs["prepare"].facts["examples"]["train"]
    words = rf"{stage}.fit.batch_size = 512, but an epoch draws only {drawn} examples .* to {drawn} or less, or add pictures"
    with pytest.raises(ValueError, match=words):
        train_network(
            stage,
            params,
            lambda *_: pytest.fail("too late"),
            inputs,
            pictures,
            seed=0,
            project=pictures,
            work=pictures,
            checkpoints=pictures,
        )


def test_more_ranks_than_the_machine_holds(pictures: Path, run: Run):
    assert run(pictures, "ingest", "prepare", "augment")[0] == 0
    text = (pictures / "params.yaml").read_text()
    (pictures / "params.yaml").write_text(text.replace("ranks: 1", "ranks: 9999", 1))
    assert_refused(pictures, run(pictures, "train"), "train", "train.ranks = 9999", "or less, or to auto")


def test_an_empty_file_of_parameters(pictures: Path, run: Run):
    (pictures / "params.yaml").write_text("")
    assert_refused(pictures, run(pictures, "ingest"), "ingest", "params.yaml: the file is empty", "examples/digits")


def test_a_rule_of_the_gate_on_a_class_that_nobody_has_is_told_before_anything_is_trained(
    tmp_path: Path,
):
    project = make_project(tmp_path / "project", "multiclass")
    text = (project / "params.yaml").read_text()
    rule = "metric: headline, max_drop: 0.05"
    (project / "params.yaml").write_text(text.replace(rule, f"{rule}, on: {{stratum: cirlce}}"))
    command = [sys.executable, "-m", "flows", "pipeline", "--project", str(project)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "gate.rules.0.on.stratum = 'cirlce': must be one of circle, " in done.stderr
    assert "the nearest is 'circle'" in done.stderr
    assert (project / "artifacts" / "prepare").is_dir() and not (project / "artifacts" / "train").exists()


def test_a_missing_artifact_names_the_way_out(pictures: Path, run: Run):
    assert_refused(pictures, run(pictures, "prepare"), "prepare", "artifacts/ingest does not exist", "make pipeline")


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left on the disk"), (errno.EROFS, "no permission")]
)
def test_a_full_or_read_only_disk(pictures: Path, run: Run, monkeypatch: pytest.MonkeyPatch, number: int, words: str):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "artifacts/ingest/rows.parquet")

    monkeypatch.setattr("temper.artifacts.write_atomically", fail)
    assert_refused(
        pictures, run(pictures, "ingest"), "ingest", words, "artifacts/ingest/rows.parquet", "same command again"
    )


def test_a_failed_stage_keeps_what_was_there(pictures: Path, run: Run):
    assert run(pictures, "ingest", "prepare")[0] == 0
    before = (pictures / "artifacts/prepare/artifact.json").read_bytes()
    text = (pictures / "params.yaml").read_text()
    (pictures / "params.yaml").write_text(text.replace("kind: multiclass", "kind: multiclass, classes: [cat, dog]"))
    code, said = run(pictures, "prepare")
    assert code == 2 and "'owl'" in said
    assert (pictures / "artifacts/prepare/artifact.json").read_bytes() == before
