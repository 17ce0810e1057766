"""Files of annotations through prepare: what is said reaches the report, and places are right."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from temper.data.images.orientation import turn
from tests.outside.files import said_by_prepare, set_lines
from tests.project import make_project
from tests.unit.data.annotated import coco, of

COUNT, SIDE = 40, 16
_ORIENTATION = 0x0112


def spot(number: int) -> tuple[int, int, int, int]:
    """Return left, top, width and height of the bright spot in an image of 32x16 px."""
    return 2 + number % 20, 1 + number % 7, 6, 4


def write_image(path: Path, number: int, *, orientation: int = 1) -> None:
    """Write a dark image with a bright spot; if EXIF turns it, the spot lies there as it is shown."""
    pixels = np.random.default_rng(number).integers(0, 60, (SIDE, 2 * SIDE, 3), np.uint8)
    left, top, width, height = spot(number)
    pixels[top : top + height, left : left + width] = 250
    undo = {6: 8, 8: 6}.get(orientation, orientation)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    turn(Image.fromarray(pixels), undo).save(path, exif=exif)


def stored_box(number: int, orientation: int) -> list[int]:
    """Return the box of the spot in pixels as they are stored, for the orientations 3 and 6."""
    left, top, width, height = spot(number)
    if orientation == 3:
        return [2 * SIDE - left - width, SIDE - top - height, width, height]
    return [top, 2 * SIDE - left - width, height, width]


def coco_project(folder: Path, kind: str, problem: str, *, orientation: int = 1, **source: str) -> Path:
    """Make a project of images in COCO's form; EXIF turns the first ten of them."""
    project = make_project(folder, kind)
    more = "".join(f", {name}: {value}" for name, value in source.items())
    set_lines(project, ingest=f"{{source: coco, folder: data{more}}}", problem=problem)
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("width_px: 16", "width_px: 32"))
    turned = {number: orientation if number < 10 else 1 for number in range(COUNT)}
    for number in range(COUNT):
        write_image(project / "data" / f"{number:02}.png", number, orientation=turned[number])
    stored = source.get("boxes_in") == "stored"
    boxes = [
        stored_box(number, turned[number]) if stored and turned[number] > 1 else list(spot(number))
        for number in range(COUNT)
    ]
    content = coco(
        {number: f"{number:02}.png" for number in range(COUNT)},
        *(
            of(
                number,
                7 * (number % 2),
                *box,
                segmentation=[corners(box)],
                keypoints=[*box[:2], 2, box[0] + box[2], box[1] + box[3], 1],
            )
            for number, box in enumerate(boxes)
        ),
    )
    for each in content["categories"]:
        each["keypoints"] = ["first", "last"]
    for each in content["images"]:
        across = stored and turned[each["id"]] == 6
        each["width"], each["height"] = (SIDE, 2 * SIDE) if across else (2 * SIDE, SIDE)
    (project / "data" / "instances.json").write_text(json.dumps(content))
    return project


def corners(box: list[int]) -> list[int]:
    left, top, width, height = box
    return [left, top, left + width, top, left + width, top + height, left, top + height]


def packed(project: Path, name: str) -> np.ndarray:
    """Return a column of all splits, as far as tests may see it."""
    parts = [project / "artifacts" / "prepare" / split / f"{name}.npy" for split in ("train", "validation")]
    return np.concatenate([np.load(part) for part in parts])


def bright(project: Path) -> np.ndarray:
    return packed(project, "image").max(axis=-1) > 150


BOXES = ("detection", "{kind: detection, cells_px: [2, 4], most: 20}")


@pytest.mark.parametrize(
    ("orientation", "source"),
    [(1, {}), (3, {}), (6, {}), (3, {"boxes_in": "stored"}), (6, {"boxes_in": "stored"})],
)
def test_boxes_lie_round_what_they_mean(
    tmp_path: Path, orientation: int, source: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    project = coco_project(tmp_path / "p", *BOXES, orientation=orientation, **source)
    said = said_by_prepare(project, capsys)
    for shown, box in zip(bright(project), packed(project, "boxes")[:, 0], strict=True):
        left, top, right, bottom = (box * [2 * SIDE, SIDE, 2 * SIDE, SIDE]).round().astype(int)
        expected = np.zeros_like(shown)
        expected[top:bottom, left:right] = True
        np.testing.assert_array_equal(shown, expected)
    words = {
        "": "guessed: 10 images that EXIF turns have boxes or points, which are taken as the image is",
        "stored": "converted: 10 images that EXIF turns have boxes or points, which are taken as the pixels",
    }[source.get("boxes_in", "")]
    assert (words in said) == (orientation > 1)


@pytest.mark.parametrize("source", [{}, {"boxes_in": "stored"}])
def test_points_lie_where_they_mean(
    tmp_path: Path, source: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    problem = "{kind: keypoints, cell_px: 2, mirrored: {}}"
    project = coco_project(tmp_path / "p", "keypoints", problem, orientation=3, truth="points", **source)
    assert "10 images that EXIF turns" in said_by_prepare(project, capsys)
    for shown, points in zip(bright(project), packed(project, "points"), strict=True):
        ends = np.sort((points * [2 * SIDE, SIDE]).round().astype(int), axis=0)
        assert shown[ends[0, 1] : ends[1, 1], ends[0, 0] : ends[1, 0]].all() and shown.sum() == 24


@pytest.mark.parametrize("orientation", [3, 6])
@pytest.mark.parametrize("source", [{}, {"boxes_in": "stored"}])
def test_drawn_masks_lie_on_what_they_mean(
    tmp_path: Path, orientation: int, source: dict[str, str], capsys: pytest.CaptureFixture[str]
):
    project = coco_project(
        tmp_path / "p",
        "segmentation",
        "{kind: segmentation}",
        orientation=orientation,
        truth="masks",
        **source,
    )
    said_by_prepare(project, capsys)
    masks = packed(project, "mask")
    np.testing.assert_array_equal(bright(project), masks > 0)
    facts = json.loads((project / "artifacts" / "prepare" / "artifact.json").read_text())["facts"]
    assert facts["problem"]["classes"] == ["background", "cat", "dog"] and set(np.unique(masks)) == {0, 1, 2}


def test_classes_in_another_order_than_that_of_drawn_masks_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    problem = "{kind: segmentation, classes: [background, dog, cat]}"
    project = coco_project(tmp_path / "p", "segmentation", problem, truth="masks")
    with pytest.raises(
        ValueError, match=r"ingest drew masks with the classes \['background', 'cat', 'dog'\]"
    ):
        said_by_prepare(project, capsys)
    set_lines(project, problem="{kind: segmentation, classes: [bg, Cat, dog]}")
    said_by_prepare(project, capsys)
    set_lines(project, ingest="{source: coco, folder: data}")
    with pytest.raises(ValueError, match=r"images without a mask: 40, .*ingest.truth: masks draws them"):
        said_by_prepare(project, capsys)


def _another_size(content: dict[str, Any]) -> None:
    content["images"][20] |= {"width": 64, "height": 32}


def _turned(content: dict[str, Any]) -> None:
    content["images"][3] |= {"width": SIDE, "height": 2 * SIDE}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            _another_size,
            r"20.png: its annotation is for an image of 64x32 px, but it has 32x16 px, so its boxes",
        ),
        (
            _turned,
            r"03.png: its annotation is for an image of 16x32 px, but it has 32x16 px as it is shown, "
            r"since EXIF turns it; set ingest.boxes_in: stored",
        ),
    ],
)
@pytest.mark.parametrize("kind", ["detection", "keypoints"])
def test_an_image_of_another_size_than_its_annotation_says_stops_with_both(
    tmp_path: Path,
    kind: str,
    change: Callable[[dict[str, Any]], None],
    words: str,
    capsys: pytest.CaptureFixture[str],
):
    settings: dict[str, Any] = {"truth": "points"} if kind == "keypoints" else {}
    problem = {"detection": BOXES[1], "keypoints": "{kind: keypoints, cell_px: 2, mirrored: {}}"}[kind]
    project = coco_project(tmp_path / "p", kind, problem, orientation=6, **settings)
    path = project / "data" / "instances.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=rf"1 of 40 images cannot be used.*{words}"):
        said_by_prepare(project, capsys)
    for each in content["images"]:
        each["width"] = each["height"] = 0
    path.write_text(json.dumps(content))
    said_by_prepare(project, capsys)
