"""What prepare converts or finds odd in images, masks and class names is said, with the right numbers."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.outside.files import (
    image,
    masks_project,
    photographs_project,
    place,
    rectangle,
    said_by_prepare,
)
from tests.project import run_until


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return photographs_project(tmp_path / "project")


def test_turned_transparent_and_cmyk_images_are_counted(project: Path, capsys: pytest.CaptureFixture[str]):
    exif = Image.Exif()
    exif[0x0112] = 6
    for number in range(8):
        picture = Image.open(place(project, number))
        picture.load()
        if number < 3:
            picture.save(place(project, number), exif=exif)
        elif number < 5:
            picture.putalpha(100)
            picture.save(place(project, number))
        elif number < 6:
            picture.putalpha(255)
            picture.save(place(project, number))
        else:
            picture.convert("CMYK").save(place(project, number), "TIFF")
    said = said_by_prepare(project, capsys)
    assert (
        "prepare: converted: 3 images are turned upright, as their EXIF says: cat/00.png, cat/02.png, dog"
        in said
    )
    assert "prepare: converted: 2 images show white where they are transparent (prepare.background)" in said
    assert "prepare: converted: 2 images in CMYK become RGB: cat/06.png, dog/07.png" in said


def test_images_that_show_nearly_nothing_are_named(project: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(4):
        pixels = np.random.default_rng(number).integers(100, 106, (16, 16, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(place(project, number))
    assert "prepare: noticed: 4 images are nearly blank: their levels" in said_by_prepare(project, capsys)


def test_classes_that_may_be_misspelt_are_named(project: Path, capsys: pytest.CaptureFixture[str]):
    (project / "images" / "cat").rename(project / "images" / "bicycle")
    for number in range(8):
        image(project / "images" / "traffic light" / f"{number}.png", 200 + number)
        image(project / "images" / "traffic_light" / f"{number}.png", 300 + number)
    for number in range(3):
        image(project / "images" / "bicyle" / f"{number}.png", 400 + number)
    said = said_by_prepare(project, capsys)
    assert (
        "prepare: noticed: 2 pairs of classes have similar names; rename their folders or labels if they "
        "mean the same: bicyle (3) and bicycle (30), traffic light (8) and traffic_light (8)"
    ) in said


def test_the_list_of_dropped_images_names_the_other_one(project: Path):
    place(project, 8).write_bytes(place(project, 0).read_bytes())
    place(project, 9).write_bytes(place(project, 2).read_bytes())
    run_until(project, "prepare")
    with (project / "artifacts" / "prepare" / "dropped.csv").open() as stream:
        others = {line["id"]: line["other"] for line in csv.DictReader(stream)}
    assert others == {"cat/08.png": "cat/00.png", "dog/09.png": "cat/02.png", "cat/02.png": "dog/09.png"}
    assert "<td>dog/09.png</td>" in (project / "artifacts" / "prepare" / "report.html").read_text()


@pytest.mark.parametrize("copy", ["08 - Copy.png", "08 (1).png", "Copy of 08.png", "08_copy.png"])
def test_of_a_file_and_its_copy_the_file_stays(project: Path, copy: str):
    place(project, 8).with_name(copy).write_bytes(place(project, 8).read_bytes())
    run_until(project, "prepare")
    with (project / "artifacts" / "prepare" / "dropped.csv").open() as stream:
        assert [(line["id"], line["other"]) for line in csv.DictReader(stream)] == [
            (f"cat/{copy}", "cat/08.png")
        ]


def test_odd_masks_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = masks_project(
        tmp_path / "project", lambda number: np.roll(rectangle(slice(5), 200), max(0, number - 30), 0)
    )
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", "prepare: {mask_values: {200: 1, 255: 1}, "))
    said = said_by_prepare(project, capsys)
    assert "prepare: noticed: 31 images have the same mask: is it the right one?: 0.png, 1.png" in said
    assert "prepare: noticed: 1 numbers of prepare.mask_values are in no mask: 255" in said


@pytest.mark.parametrize(
    ("odd", "words", "flat"),
    [
        (
            -9999.0,
            "converted: 60 images have pixels without a measurement (NaN, -9999), which become the",
            False,
        ),
        (float("nan"), "converted: 60 images have pixels without a measurement (NaN, -9999)", False),
        (
            60000.0,
            "of this range, and become dark or flat: if the others are hot pixels, set prepare.range: [",
            True,
        ),
    ],
)
def test_marks_of_missing_data_do_not_flatten_images_and_hot_pixels_are_named(
    project: Path, odd: float, words: str, flat: bool, capsys: pytest.CaptureFixture[str]
):
    for number in range(60):
        levels = np.random.default_rng(number).uniform(0, 300, (16, 16)).astype(np.float32)
        levels[0, 0] = odd
        place(project, number).unlink()
        Image.fromarray(levels).save(place(project, number).with_suffix(".tiff"))
    assert words in said_by_prepare(project, capsys)
    images = np.load(project / "artifacts" / "prepare" / "train" / "image.npy")
    assert (images.std() < 20) == flat


def test_frames_of_an_animated_png_are_said(project: Path, capsys: pytest.CaptureFixture[str]):
    frames = [Image.open(place(project, number)).copy() for number in range(3)]
    frames[0].save(place(project, 7), save_all=True, append_images=frames[1:])
    assert "prepare: left out: 1 files hold several images" in said_by_prepare(project, capsys)


def test_masks_of_255_among_others_are_noticed(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = masks_project(
        tmp_path / "project", lambda number: rectangle(slice(number % 8, 9), 255 if number % 2 else 1)
    )
    assert "prepare: noticed: 20 masks hold one class and 255" in said_by_prepare(project, capsys)
