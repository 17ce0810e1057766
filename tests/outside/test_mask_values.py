"""Masks in colours, or with other numbers than those of classes: what `prepare.mask_values` makes of them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper import artifacts
from tests.outside.files import image, rectangle, set_lines
from tests.project import make_project, run_until

BLACK, RED, WHITE = (0, 0, 0), (255, 0, 0), (255, 255, 255)


def mask_folders(folder: Path, mask: Callable[[int], Image.Image], ending: str = "png") -> Path:
    """Make a project of 40 images of 16 px in `data/images`, with their masks in `data/masks`."""
    project = make_project(folder, "segmentation")
    set_lines(project, ingest="{source: masks, folder: data}", problem="{kind: segmentation}")
    for number in range(40):
        image(project / "data" / "images" / f"{number}.png", number, side=16)
        path = project / "data" / "masks" / f"{number}.{ending}"
        path.parent.mkdir(parents=True, exist_ok=True)
        mask(number).save(path)
    return project


def name_values(project: Path, values: str) -> None:
    """Set `prepare.mask_values`."""
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", f"prepare: {{mask_values: {values}, "))


def coloured(number: int, colour: tuple[int, ...] = RED) -> Image.Image:
    """Return a mask with a rectangle of a colour on black."""
    mask = np.zeros((16, 16, len(colour)), np.uint8)
    mask[rectangle(slice(4 + number % 5), 1) == 1] = colour
    return Image.fromarray(mask)


def prepared(project: Path) -> np.ndarray:
    """Run prepare; return the masks of the training split."""
    run_until(project, "prepare")
    return np.load(project / "artifacts" / "prepare" / "train" / "mask.npy")


def facts(project: Path) -> dict[str, object]:
    return dict(artifacts.load("prepare", project / "artifacts" / "prepare").facts)


def test_names_in_mask_values_become_the_classes(tmp_path: Path):
    grey = mask_folders(tmp_path / "a", lambda n: Image.fromarray(rectangle(slice(4 + n % 5), 255)))
    name_values(grey, "{0: background, 255: cell}")
    assert set(np.unique(prepared(grey))) == {0, 1}
    assert facts(grey)["problem"] == {"kind": "segmentation", "classes": ["background", "cell"]}


@pytest.mark.parametrize(
    "values", ['{"#000000": none, "#FF0000": road}', '{"0,0,0": none, "[255,0,0]": road}']
)
@pytest.mark.parametrize("alpha", [(), (255,)])
def test_colours_are_classes(tmp_path: Path, values: str, alpha: tuple[int, ...]):
    project = mask_folders(tmp_path / "a", lambda number: coloured(number, (*RED, *alpha)))
    name_values(project, values)
    masks = prepared(project)
    assert set(np.unique(masks)) == {0, 1} and (masks == 1).mean() == pytest.approx(0.14, abs=0.02)
    assert facts(project)["dropped"] == {}


def test_colours_of_palettes_count_if_colours_are_named(tmp_path: Path):
    def mask(number: int) -> Image.Image:
        found = Image.fromarray(rectangle(slice(6), 1 + number % 2), "P")
        found.putpalette([*BLACK, *(RED * 2)])
        return found

    project = mask_folders(tmp_path / "a", mask)
    name_values(project, '{"#000000": none, "#ff0000": road}')
    assert set(np.unique(prepared(project))) == {0, 1}


def test_pixels_of_a_colour_can_be_left_out(tmp_path: Path):
    def mask(number: int) -> Image.Image:
        found = np.array(coloured(number))
        found[-1] = WHITE
        return Image.fromarray(found)

    project = mask_folders(tmp_path / "a", mask)
    name_values(project, '{"#000000": none, "#ff0000": road, "#ffffff": 255}')
    assert set(np.unique(prepared(project))) == {0, 1, 255}


def test_masks_in_colour_without_names_are_refused_with_their_colours(tmp_path: Path):
    project = mask_folders(tmp_path / "a", lambda number: coloured(number, RED if number % 2 else WHITE))
    set_lines(project, problem="{kind: segmentation, classes: [background, road]}")
    rest = r'\{"#000000": background, "#ff0000": class-1\}'
    with pytest.raises(ValueError, match=rf"its mask has the colours #000000 .*{rest}"):
        run_until(project, "prepare")
    for number in range(0, 40, 2):
        coloured(number, (0, 128, 0)).save(project / "data" / "masks" / f"{number}.png")
    listed = r'"#000000": background, "#(ff0000|008000)": class-1, "#(ff0000|008000)": class-2'
    with pytest.raises(
        ValueError, match=rf"40 of 40 masks are in colour, .*prepare.mask_values: \{{{listed}"
    ):
        run_until(project, "prepare")


def test_what_is_not_named_makes_an_image_unusable(tmp_path: Path):
    def mask(number: int) -> Image.Image:
        return coloured(number, RED if number else (0, 0, 255))

    project = mask_folders(tmp_path / "a", mask)
    name_values(project, '{"#000000": none, "#ff0000": road}')
    with pytest.raises(
        ValueError, match=r"1 of 40 images .*its mask has the colour #0000ff \(24 px\), which"
    ):
        run_until(project, "prepare")
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("mask_values", "max_bad_share: 0.1, mask_values"))
    run_until(project, "prepare")
    assert facts(project)["dropped"] == {"cannot be used": 1}
    grey = mask_folders(tmp_path / "b", lambda n: Image.fromarray(rectangle(slice(6), 255 if n else 9)))
    name_values(grey, "{0: background, 255: cell}")
    with pytest.raises(ValueError, match=r"its mask has the number 9 \(36 px\), which prepare.mask_values"):
        run_until(grey, "prepare")


def soft(number: int) -> Image.Image:
    """Return a mask of 0 and 255 with smooth edges."""
    ramp = np.minimum(255, np.arange(16) * 17 + 3 * (number % 2)).astype(np.uint8)
    return Image.fromarray(np.add.outer(ramp // 2, ramp // 2).astype(np.uint8))


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_smooth_edges_and_jpegs_are_explained(tmp_path: Path, ending: str):
    def mask(number: int) -> Image.Image:
        pixels = np.asarray(soft(number))
        return Image.fromarray(np.stack([pixels, pixels // 2, 255 - pixels], -1))

    project = mask_folders(tmp_path / "a", mask, ending)
    name_values(project, '{"#000000": none, "#ff0000": road}')
    with pytest.raises(
        ValueError, match=r"more than 16 colours that prepare.mask_values .*smooth edges.*PNG"
    ):
        run_until(project, "prepare")
    grey = mask_folders(tmp_path / "b", soft, ending)
    name_values(grey, "{0: background, 255: cell}")
    with pytest.raises(
        ValueError, match=r"more than 16 numbers that prepare.mask_values .*if they are confused"
    ) as caught:
        run_until(grey, "prepare")
    assert str(caught.value).count("more than 16 numbers") == 1, "reasons are counted"


def test_exchanged_folders_are_explained(tmp_path: Path):
    project = mask_folders(tmp_path / "a", lambda number: coloured(number))
    set_lines(project, ingest="{source: masks, folder: data, images: masks, masks: images}")
    name_values(project, '{"#000000": none, "#ff0000": road}')
    with pytest.raises(ValueError, match=r"or exchange images and masks if they are confused"):
        run_until(project, "prepare")


def test_masks_of_16_bits_are_read_by_their_numbers(tmp_path: Path):
    def mask(number: int) -> Image.Image:
        return Image.fromarray(rectangle(slice(6), 1).astype(np.uint16) * 1000)

    project = mask_folders(tmp_path / "a", mask)
    name_values(project, "{0: background, 1000: cell}")
    assert set(np.unique(prepared(project))) == {0, 1}
    other = mask_folders(tmp_path / "b", mask)
    name_values(other, '{"#000000": none, "#ff0000": road}')
    with pytest.raises(ValueError, match=r"mode I;16, but prepare.mask_values names colours"):
        run_until(other, "prepare")


def test_empty_masks_another_size_and_a_class_that_is_never_drawn_are_refused(tmp_path: Path):
    project = mask_folders(tmp_path / "a", lambda number: Image.fromarray(np.zeros((16, 16), np.uint8)))
    name_values(project, "{0: background, 255: cell}")
    with pytest.raises(ValueError, match=r"class 'cell' has no example among the 40 usable ones"):
        run_until(project, "prepare")
    for number in range(40):
        Image.fromarray(np.zeros((9, 16), np.uint8)).save(project / "data" / "masks" / f"{number}.png")
    with pytest.raises(ValueError, match=r"its mask has 16x9 px, the image 16x16 px"):
        run_until(project, "prepare")


def test_masks_of_turned_photographs_are_turned(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = mask_folders(tmp_path / "a", lambda number: coloured(number).crop((0, 0, 16, 12)))
    for number in range(40):
        pixels = np.random.default_rng(number).integers(0, 60, (12, 16, 3), np.uint8)
        pixels[np.asarray(coloured(number))[:12, :, 0] == 255] += 150
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(pixels).save(project / "data" / "images" / f"{number}.png", exif=exif)
    name_values(project, '{"#000000": none, "#ff0000": road}')
    masks = prepared(project)
    assert "40 masks of images that EXIF turns have swapped sides" in capsys.readouterr().err
    images = np.load(project / "artifacts" / "prepare" / "train" / "image.npy")
    assert images[masks == 1].mean() > images[masks == 0].mean() + 100


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (
            "{0: background, '#ff0000': road}",
            r"the number 0 and the colour #ff0000: .*write all keys as colours",
        ),
        ("{red: road}", r"'red' is neither a number in masks nor a colour"),
        ("{'#ff0000': road, '255,0,0': street}", r"'255,0,0' is there twice, perhaps written otherwise"),
        ("{0: true, 255: road}", r"prepare.mask_values"),
        ("{[255, 0, 0]: road}", r"a value is not a text, number, list or mapping|is no|neither"),
        ("{255: road}", r"names one class only, 'road'; name what the other numbers mean"),
        ("{0: 0, 255: 1}", r"problem.classes is missing: .*give names in prepare.mask_values"),
    ],
)
def test_wrong_values_are_refused_before_any_image_is_read(tmp_path: Path, values: str, words: str):
    project = mask_folders(tmp_path / "a", lambda number: coloured(number))
    name_values(project, values)
    with pytest.raises(ValueError, match=words):
        run_until(project, "ingest")


def test_a_class_that_is_not_in_the_problem_is_refused(tmp_path: Path):
    project = mask_folders(tmp_path / "a", lambda number: coloured(number))
    set_lines(project, problem="{kind: segmentation, classes: [background, cell]}")
    name_values(project, "{0: background, 255: cel}")
    with pytest.raises(ValueError, match=r"'cel' is not among problem.classes \(nearest: 'cell'\)"):
        run_until(project, "ingest")
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("255: cel", "255: 2"))
    with pytest.raises(
        ValueError, match=r"2 is no class number; those of problem.classes are 0 to 1, and 255"
    ):
        run_until(project, "ingest")
