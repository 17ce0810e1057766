"""Errors in a user's input give one paragraph, no traceback and no half-written files."""

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

from temper import artifacts
from temper.cli.main import main
from temper.config import load
from temper.stages.fit_network import train_network
from tests.project import ROOT, make_project

Run = Callable[..., tuple[int, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Call `main` as the command line does; returns the exit status and the text on stderr."""

    def call(project: Path, *stages: str) -> tuple[int, str]:
        for stage in stages:
            monkeypatch.setattr(sys, "argv", ["temper", "stage", stage, "--project", str(project)])
            try:
                main()
            except SystemExit as end:
                if end.code:
                    return int(str(end.code)), capsys.readouterr().err
        return 0, capsys.readouterr().err

    return call


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A project with images in class folders: grey and colour, PNG and JPEG, of different sizes."""
    project = make_project(tmp_path / "project", "multiclass")
    text = (project / "params.yaml").read_text()
    start = text.index("ingest: {")
    text = text[:start] + "ingest: {source: imagefolder, folder: images}" + text[text.index("\n", start) :]
    (project / "params.yaml").write_text(text)
    generator = np.random.default_rng(0)
    for name in ("cat", "dog", "owl"):
        (project / "images" / name).mkdir(parents=True)
        for number in range(24):
            shape = (20 + number, 30) if number % 3 else (18, 18 + number, 3)
            image = Image.fromarray(generator.integers(0, 256, shape, dtype=np.uint8))
            image.save(project / "images" / name / f"{number}.{'png' if number % 2 else 'jpg'}")
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


def test_mixed_images_of_any_size_go_through(images: Path, run: Run):
    assert run(images, "ingest", "prepare", "augment")[0] == 0
    assert np.load(images / "artifacts/prepare/train/image.npy").shape[1:] == (16, 16, 3)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("seed: 0", "sed: 0", ("params.yaml", "unknown key sed", "'seed'")),
        ("epochs: 2", "epochs: two", ("train.fit.epochs = 'two'", "valid integer")),
        ("folder: images", "folder: nowhere", ("nowhere",)),
    ],
)
def test_mistakes_in_params(images: Path, run: Run, old: str, new: str, words: tuple[str, ...]):
    text = (images / "params.yaml").read_text()
    (images / "params.yaml").write_text(text.replace(old, new, 1))
    assert_refused(images, run(images, "ingest"), "ingest", *words)


def test_an_empty_class(images: Path, run: Run):
    (images / "images" / "yak").mkdir()
    assert_refused(images, run(images, "ingest"), "ingest", "yak")


def test_one_class_only(images: Path, run: Run):
    for name in ("dog", "owl"):
        for path in (images / "images" / name).iterdir():
            path.unlink()
        (images / "images" / name).rmdir()
    assert_refused(images, run(images, "ingest", "prepare"), "prepare", "cat")


def test_a_class_too_small_for_every_split(images: Path, run: Run):
    for path in sorted((images / "images" / "owl").iterdir())[2:]:
        path.unlink()
    assert_refused(images, run(images, "ingest", "prepare"), "prepare", "owl")


BAD = {
    "a zero-byte file": b"",
    "a file that is no image": b"just words",
    "a truncated image": None,
    "an image 30,000 px wide": None,
}


def spoil(name: str) -> bytes:
    if BAD[name] is not None:
        return BAD[name]  # type: ignore[return-value]
    stream = io.BytesIO()
    shape = (10, 30_000) if "30,000" in name else (40, 40)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)).save(stream, "PNG")
    return stream.getvalue() if "30,000" in name else stream.getvalue()[:200]


@pytest.mark.parametrize("name", BAD)
def test_bad_images_are_named_and_too_many_stop(images: Path, run: Run, name: str):
    (images / "images" / "cat" / "bad.png").write_bytes(spoil(name))
    # One bad image of 73 is more than the default limit of 1 %.
    assert_refused(
        images, run(images, "ingest", "prepare"), "prepare", " images/cat/bad.png: ", "max_bad_share"
    )
    text = (images / "params.yaml").read_text()
    (images / "params.yaml").write_text(text.replace("prepare: {", "prepare: {max_bad_share: 0.05, "))
    assert run(images, "prepare")[0] == 0
    assert "cat/bad.png" in (images / "artifacts/prepare/dropped.csv").read_text()
    assert "<td>cat/bad.png</td>" in (images / "artifacts/prepare/report.html").read_text()


@pytest.mark.parametrize("absolute", [False, True])
def test_messages_name_the_images_where_the_user_put_them(images: Path, run: Run, absolute: bool):
    folder = str(images / "images") if absolute else "../project/images"
    text = (images / "params.yaml").read_text().replace("folder: images", f"folder: {folder}")
    text = text.replace("kind: multiclass", "kind: multiclass, classes: [cat, dog]")
    (images / "params.yaml").write_text(text)
    assert_refused(
        images, run(images, "ingest", "prepare"), "prepare", f"'owl' of {folder}/owl/0.jpg is not among"
    )


def test_messages_name_the_images_of_a_table(images: Path, run: Run):
    lines = ["path,labels"] + [
        f"../images/{name}/{i}.png,{name}" for name in ("cat", "dog") for i in range(1, 24, 2)
    ]
    (images / "lists").mkdir()
    (images / "lists/all.csv").write_text("\n".join([*lines, "bad.png,cat"]))
    (images / "lists/bad.png").write_bytes(b"words")
    text = (images / "params.yaml").read_text()
    text = text.replace("source: imagefolder, folder: images", "source: table, file: lists/all.csv")
    (images / "params.yaml").write_text(text)
    assert_refused(images, run(images, "ingest", "prepare"), "prepare", " lists/bad.png: not an image")


def flip(path: Path) -> None:
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("stage", ["augment", "train"])
@pytest.mark.parametrize("name", ["train/image.npy", "train/label.npy", "rows.parquet"])
def test_an_image_or_a_label_that_changed_after_prepare_is_named(
    images: Path, run: Run, name: str, stage: str
):
    assert run(images, "ingest", "prepare", *(["augment"] if stage == "train" else []))[0] == 0
    flip(images / "artifacts/prepare" / name)
    words = (f"artifacts/prepare/{name} is damaged", "SHA-256", "delete", "`make pipeline PROJECT=")
    assert_refused(images, run(images, stage), stage, *words)


@pytest.mark.parametrize("name", ["images.zip", "rows.parquet"])
def test_raw_data_that_changed_after_ingest_are_named(images: Path, run: Run, name: str):
    assert run(images, "ingest")[0] == 0
    flip(images / "artifacts/ingest" / name)
    words = (f"artifacts/ingest/{name} is damaged", "SHA-256", "delete", "`make pipeline PROJECT=")
    assert_refused(images, run(images, "prepare"), "prepare", *words)


@pytest.mark.parametrize("stage", ["train", "distill"])
def test_a_batch_larger_than_an_epoch_names_its_key_and_the_way_out(images: Path, run: Run, stage: str):
    assert run(images, "ingest", "prepare", "augment")[0] == 0
    inputs = {name: artifacts.load(name, images / "artifacts" / name) for name in ("prepare", "augment")}
    params = getattr(load(images), stage)
    params = replace(params, fit=replace(params.fit, batch_size=512))
    drawn = inputs["prepare"].facts["examples"]["train"]
    words = (
        rf"{stage}.fit.batch_size = 512, but an epoch draws only {drawn} examples .* to {drawn} or less, "
        "or add images"
    )
    with pytest.raises(ValueError, match=words):
        train_network(
            stage,
            params,
            lambda *_: pytest.fail("too late"),
            inputs,
            images,
            seed=0,
            project=images,
            work=images,
            checkpoints=images,
        )


def test_more_ranks_than_the_machine_holds(images: Path, run: Run):
    assert run(images, "ingest", "prepare", "augment")[0] == 0
    text = (images / "params.yaml").read_text()
    (images / "params.yaml").write_text(text.replace("ranks: 1", "ranks: 9999", 1))
    assert_refused(images, run(images, "train"), "train", "train.ranks = 9999", "or less, or to auto")


def test_an_empty_file_of_parameters(images: Path, run: Run):
    (images / "params.yaml").write_text("")
    assert_refused(
        images, run(images, "ingest"), "ingest", "params.yaml: the file is empty", "examples/digits"
    )


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


def test_a_missing_artifact_names_the_way_out(images: Path, run: Run):
    assert_refused(
        images, run(images, "prepare"), "prepare", "artifacts/ingest does not exist", "make pipeline"
    )


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left on the disk"), (errno.EROFS, "no permission")]
)
def test_a_full_or_read_only_disk(
    images: Path, run: Run, monkeypatch: pytest.MonkeyPatch, number: int, words: str
):
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "artifacts/ingest/rows.parquet")

    monkeypatch.setattr("temper.artifacts.write_atomically", fail)
    assert_refused(
        images, run(images, "ingest"), "ingest", words, "artifacts/ingest/rows.parquet", "same command again"
    )


def test_a_failed_stage_keeps_what_was_there(images: Path, run: Run):
    assert run(images, "ingest", "prepare")[0] == 0
    before = (images / "artifacts/prepare/artifact.json").read_bytes()
    text = (images / "params.yaml").read_text()
    (images / "params.yaml").write_text(
        text.replace("kind: multiclass", "kind: multiclass, classes: [cat, dog]")
    )
    code, said = run(images, "prepare")
    assert code == 2 and "'owl'" in said
    assert (images / "artifacts/prepare/artifact.json").read_bytes() == before
