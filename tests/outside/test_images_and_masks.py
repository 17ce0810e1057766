"""Masks as people have them: with 0 and 255, of turned photographs."""

import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from temper import artifacts
from temper.config import load
from temper.data.images.palettes import read_palette
from temper.data.images.reading import Unreadable, open_plain
from temper.ops.project import Project
from temper.ops.release import split_history
from tests.outside.files import masks_project, rectangle, set_lines
from tests.project import make_project, run_in_process, run_until


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """Images with masks of 0 and 255, the commonest export."""
    return masks_project(tmp_path / "project", lambda number: rectangle(slice(4 + number % 5), 255))


def test_masks_of_0_and_255_are_explained_and_can_be_named(project: Path):
    with pytest.raises(
        ValueError, match=r"'cell' has no example .*are 255, .*prepare.mask_values: \{255: 1\}"
    ):
        run_until(project, "prepare")
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", "prepare: {mask_values: {255: 1}, "))
    run_until(project, "prepare")
    counts = artifacts.load("prepare", project / "artifacts" / "prepare").facts["counts"]
    assert counts["train"]["cell"] > 10


def test_ignored_pixels_are_in_the_report(project: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(40):
        mask = np.array(Image.open(project / f"mask-{number}.png"))
        mask[8:12, 8:12] = 1
        Image.fromarray(mask).save(project / f"mask-{number}.png")
    run_until(project, "prepare")
    assert "prepare: left out: 14.1% of the pixels of the masks are 255" in capsys.readouterr().err
    assert "of the masks are 255" in (project / "artifacts" / "prepare" / "report.html").read_text()


def test_masks_of_turned_photographs_overlap_and_are_said(project: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 60, (12, 16, 3), np.uint8)
        mask = np.zeros((12, 16), np.uint8)
        mask[:5, :7] = 1
        pixels[:5, :7] += 150
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(project / f"{number}.png", exif=exif)
        Image.fromarray(mask).save(project / f"mask-{number}.png")
    run_until(project, "prepare")
    assert (
        "prepare: converted: 40 masks of images that EXIF turns have swapped sides" in capsys.readouterr().err
    )
    prepare = project / "artifacts" / "prepare" / "train"
    images, masks = (np.load(prepare / f"{name}.npy") for name in ("image", "mask"))
    assert images[masks == 1].mean() > images[masks == 0].mean() + 100


@pytest.mark.parametrize(
    ("low", "high", "kind", "dtype"),
    [
        (0, 4095, "png", np.uint16),
        (29_000, 31_000, "png", np.uint16),
        (0, 65_535, "png", np.uint16),
        (-20.0, 60.0, "tiff", np.float32),
    ],
)
def test_images_with_more_than_8_bits_keep_their_contrast(
    tmp_path: Path, low: float, high: float, kind: str, dtype: type, capsys: pytest.CaptureFixture[str]
):
    project = make_project(tmp_path / "project", "multiclass")
    set_lines(project, ingest="{source: imagefolder, folder: images}")

    def write(number: int, low: float, high: float) -> None:
        values = np.random.default_rng(number).uniform(low, high, (16, 16)).astype(dtype)
        path = project / "images" / ("cat", "dog")[number % 2] / f"{number}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values).save(path)

    for number in range(60):
        write(number, low, high)
    run_until(project, "prepare")
    images = np.load(project / "artifacts" / "prepare" / "train" / "image.npy")
    assert images.shape[-1] == 1 and len(np.unique(images)) > 200 and images.std() > 50
    assert (
        "prepare: guessed: 60 of 60 sampled images have more than 8 bits: their levels"
        in capsys.readouterr().err
    )
    facts = artifacts.load("prepare", project / "artifacts" / "prepare").facts["inputs"][0]
    assert facts["levels"] == pytest.approx([low, high], abs=0.01 * (high - low))
    write(100, low, high + 0.3 * (high - low) if high < 60_000 else high)
    run_in_process(project, "ingest")
    split_history.save_splits(Project.at(project), load(project))
    run_in_process(project, "prepare")
    again = artifacts.load("prepare", project / "artifacts" / "prepare").facts["inputs"][0]
    assert again["levels"] == facts["levels"], "a project keeps its levels"


def test_white_drawings_on_transparent_ground_are_named_and_can_be_seen(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    project = make_project(tmp_path / "project", "multiclass")
    set_lines(project, ingest="{source: imagefolder, folder: images}")
    for number in range(60):
        pixels = np.full((16, 16, 4), 255, np.uint8)
        pixels[..., 3] = 255 * np.random.default_rng(number).integers(0, 2, (16, 16))
        path = project / "images" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(path)
    run_until(project, "prepare")
    said = capsys.readouterr().err
    assert "prepare: noticed: 60 images are blank" in said and "prepare.background" in said
    facts = artifacts.load("prepare", project / "artifacts" / "prepare").facts
    assert facts["examples"]["train"] > 30, "blank images of different files are not equal"
    for background, low in (("black", 0), ("checker", 64)):
        text = make_project(tmp_path / background, "multiclass").joinpath("params.yaml").read_text()
        text = text.replace("prepare: {", f"prepare: {{background: {background}, ")
        (project / "params.yaml").write_text(text)
        set_lines(project, ingest="{source: imagefolder, folder: images}")
        run_until(project, "prepare")
        images = np.load(project / "artifacts" / "prepare" / "train" / "image.npy")
        assert images.min() <= low and images.max() == 255 and len(np.unique(images, axis=0)) == len(images)
        facts = artifacts.load("prepare", project / "artifacts" / "prepare").facts
        assert facts["inputs"][0]["background"] == background
        assert "blank" not in capsys.readouterr().err


@pytest.mark.parametrize(("first", "second"), [((255, 0, 0), (0, 0, 255)), ((1, 1, 1), (255, 0, 0))])
def test_palettes_that_differ_from_file_to_file(
    project: Path, first: tuple[int, ...], second: tuple[int, ...], capsys: pytest.CaptureFixture[str]
):
    """Either the same colours have other numbers, which stops, or the numbers have other colours."""
    for number in range(40):
        mask = Image.fromarray((np.array(Image.open(project / f"mask-{number}.png")) > 0).astype(np.uint8))
        mask.putpalette([0, 0, 0, *(first if number < 20 else second)])
        mask.save(project / f"mask-{number}.png")
    run_until(project, "prepare")
    assert "prepare: noticed: 20 masks give their numbers other colours" in capsys.readouterr().err
    mask = Image.fromarray(np.array(Image.open(project / "mask-7.png")) + 1)
    mask.putpalette([9, 9, 9, *first, 0, 0, 0])
    mask.save(project / "mask-7.png")
    set_lines(project, problem="{kind: segmentation, classes: [background, cell, nucleus]}")
    with pytest.raises(ValueError, match=r"colour #000000 is number 0 in .* number 2 in .*mask-7"):
        run_until(project, "prepare")
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", "prepare: {mask_palettes: ignore, "))
    with pytest.raises(ValueError, match="class 'nucleus' has no example in the"):
        run_until(project, "prepare")


def test_colour_of_12_bits_in_16_keeps_its_contrast(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = make_project(tmp_path / "project", "multiclass")
    set_lines(project, ingest="{source: imagefolder, folder: images}")
    for number in range(60):
        levels = np.random.default_rng(number).integers(0, 4096, (16, 16, 3)).astype(np.uint16)
        path = (
            project / "images" / ("cat", "dog")[number % 2] / f"{number}.{('png', 'tiff')[number % 3 == 0]}"
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), levels)
    run_until(project, "prepare")
    images = np.load(project / "artifacts" / "prepare" / "train" / "image.npy")
    assert images.shape[-1] == 3 and len(np.unique(images)) > 200 and images.std() > 50
    assert "60 of 60 sampled images have more than 8 bits: their levels 0 to 4095" in capsys.readouterr().err


def test_images_of_12_bits_among_16_are_said_to_become_dark(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    project = make_project(tmp_path / "project", "multiclass")
    set_lines(project, ingest="{source: imagefolder, folder: images}")
    for number in range(60):
        top = 4096 if number % 4 == 0 else 65_536
        levels = np.random.default_rng(number).integers(0, top, (16, 16)).astype(np.uint16)
        path = project / "images" / ("cat", "dog")[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(levels).save(path)
    run_until(project, "prepare")
    assert (
        "prepare: noticed: 15 of 60 sampled images with more than 8 bits use less" in capsys.readouterr().err
    )


def test_masks_of_turned_photographs_that_lie_in_two_ways_stop(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    """Swapped sides prove that some masks lie as pixels are stored; those of half-turned images may not."""
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 200, (12, 16, 3), np.uint8)
        mask = np.zeros((12, 16), np.uint8)
        mask[:5, :7] = 1
        exif = Image.Exif()
        exif[0x0112] = 6 if number < 10 else 3
        Image.fromarray(pixels).save(project / f"{number}.png", exif=exif)
        Image.fromarray(mask).save(project / f"mask-{number}.png")
    with pytest.raises(ValueError, match=r"10 masks have swapped sides.*30 have the size.*mask_orientation"):
        run_until(project, "prepare")
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", "prepare: {mask_orientation: stored, "))
    run_until(project, "prepare")
    assert (
        "guessed: 30 masks of images that EXIF turns are taken as they are stored" in capsys.readouterr().err
    )


def test_grey_masks_that_were_stored_as_colour_are_read(project: Path):
    for number in range(40):
        mask = Image.open(project / f"mask-{number}.png").point(lambda value: value // 255)
        mask.convert(("RGB", "RGBA", "LA")[number % 3]).save(project / f"mask-{number}.png")
    run_until(project, "prepare")
    counts = artifacts.load("prepare", project / "artifacts" / "prepare").facts["counts"]
    assert counts["train"]["cell"] > 10


def test_the_way_out_of_other_numbers_in_masks_is_named_once(project: Path):
    for number in range(40):
        Image.open(project / f"mask-{number}.png").point(lambda value: value // 2).save(
            project / f"mask-{number}.png"
        )
    with pytest.raises(ValueError, match=r"prepare.mask_values, for example \{127: 1\}") as caught:
        run_until(project, "prepare")
    assert str(caught.value).count("mask_values") == 1 and "and 37 more: " in str(caught.value)


def test_masks_in_the_channel_of_transparency_name_the_way_out(project: Project):
    for number in range(40):
        path = project / f"mask-{number}.png"
        mask = Image.open(path)
        mask.load()
        Image.merge("LA", [Image.new("L", mask.size), mask]).convert("RGBA").save(path)
    with pytest.raises(ValueError, match=r"one colour, and only its transparency differs; store"):
        run_until(project, "prepare")


def test_animations_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = make_project(tmp_path / "project", "multiclass")
    set_lines(project, ingest="{source: imagefolder, folder: images}")
    for number in range(60):
        frames = [
            Image.fromarray(np.random.default_rng([number, each]).integers(0, 256, (16, 16, 3), np.uint8))
            for each in range(3)
        ]
        path = project / "images" / ("cat", "dog")[number % 2] / f"{number}.{'gif' if number < 9 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        frames[0].save(path, **({"save_all": True, "append_images": frames[1:]} if number < 9 else {}))
    run_until(project, "prepare")
    assert "prepare: left out: 9 files hold several images" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"\0\0\0\x18ftypheic", "HEIC: convert it to JPEG"),
        (b"%PDF-1.7", "PDF: convert"),
        (b"<html>404", "a page of HTML"),
        (b"words", "in a known format$"),
    ],
)
def test_files_of_other_formats_are_named(content: bytes, words: str):
    with pytest.raises(Unreadable, match=words):
        open_plain(content, max_pixels=100, max_side_px=100)


def test_colour_of_16_bits_that_cannot_be_decoded_is_refused(monkeypatch: pytest.MonkeyPatch):
    raw = cv2.imencode(".png", np.full((8, 8, 3), 900, np.uint16))[1].tobytes()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: None)
    with pytest.raises(Unreadable, match="channels of 16 bits cannot be decoded"):
        open_plain(raw, max_pixels=100, max_side_px=100)


def test_a_palette_that_is_too_short_tells_nothing():
    mask = Image.fromarray(np.arange(16, dtype=np.uint8).reshape(4, 4))
    mask.putpalette(list(range(48)))
    stream = io.BytesIO()
    mask.save(stream, "PNG")
    png = stream.getvalue()
    assert read_palette(png) is not None
    start = png.index(b"PLTE")
    colours = b"PLTE" + png[start + 4 : start + 10]
    short = struct.pack(">I", 6) + colours + struct.pack(">I", zlib.crc32(colours))
    assert read_palette(png[: start - 4] + short + png[start + 4 + 48 + 4 :]) is None
