"""Properties of files that give a class away are said; those that do not are not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.outside.files import set_lines
from tests.outside.test_what_is_said import said_by_prepare
from tests.project import make_project

Write = Callable[[Path, int, np.random.Generator], None]


def noise(generator: np.random.Generator, side: int) -> Image.Image:
    return Image.fromarray(generator.integers(0, 256, (side, side, 3), np.uint8))


def _grey(path: Path, number: int, generator: np.random.Generator) -> None:
    noise(generator, 16).convert("L" if number % 2 else "RGB").save(path.with_suffix(".png"))


def _large(path: Path, number: int, generator: np.random.Generator) -> None:
    noise(generator, 64 if number % 2 else 16).save(path.with_suffix(".png"))


def _varied(path: Path, number: int, generator: np.random.Generator) -> None:
    noise(generator, (60 if number % 2 else 20) + number % 5).save(path.with_suffix(".png"))


def _jpeg(path: Path, number: int, generator: np.random.Generator) -> None:
    noise(generator, 16).save(
        path.with_suffix(".JPEG" if number % 4 == 1 else ".jpg" if number % 2 else ".png")
    )


def _alike(path: Path, number: int, generator: np.random.Generator) -> None:
    side = int(generator.choice([16, 20, 24]))
    image = noise(generator, side)
    image = image.convert("L") if generator.random() < 0.5 else image
    image.save(path.with_suffix(str(generator.choice([".png", ".bmp"]))))


def project_of(folder: Path, write: Write) -> Path:
    project, generator = make_project(folder, "multiclass"), np.random.default_rng(0)
    set_lines(project, ingest="{source: imagefolder, folder: images}")
    for number in range(80):
        path = project / "images" / ("cat", "dog")[number % 2] / f"{number:02}"
        path.parent.mkdir(parents=True, exist_ok=True)
        write(path, number, generator)
    return project


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (_grey, "cat (100% are in colour, of the others 0%), dog (100% are grey, of the others 0%)"),
        (_large, "cat (100% are 16x16 px, of the others 0%), dog (100% are 64x64 px, of the others 0%)"),
        (_varied, "dog (100% are about 64 px wide and high, of the others 0%)"),
        (_jpeg, "cat (100% are .png, of the others 0%), dog (100% are .jpg, of the others 0%)"),
    ],
)
def test_a_class_that_its_files_give_away_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], write: Write, words: str
):
    said = said_by_prepare(project_of(tmp_path / "project", write), capsys)
    assert "classes can be told from the others by colour, size or type of their files alone" in said
    assert words in said


def test_files_that_do_not_depend_on_the_class_are_not_mentioned(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    assert "classes can be told" not in said_by_prepare(project_of(tmp_path / "project", _alike), capsys)
