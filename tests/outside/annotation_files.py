"""What people's files of annotations look like: small generators, one per situation.

A generator adds its situation to a folder with annotations of four good images, in COCO's or YOLO's form.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from temper.data.source_params import Coco, Yolo
from temper.data.sources import LISTED
from temper.data.sources.listing import Listing
from tests.unit.data.annotated import coco, image, of

GOOD = ("a.png", "b.png", "c.png", "d.png")


def write_coco(root: Path) -> dict[str, Any]:
    """Write four images, and return their annotations."""
    for number, name in enumerate(GOOD):
        image(root / name, seed=number)
    return coco(dict(enumerate(GOOD)), *(of(number, 7 * (number % 2), 2, 3, 9, 8) for number in range(4)))


def list_coco(root: Path, content: dict[str, Any]) -> Listing:
    """Write annotations of that folder, and list it."""
    (root / "instances.json").write_text(json.dumps(content))
    return LISTED["coco"](Coco(source="coco", folder=str(root)), Path())


def write_yolo(root: Path) -> None:
    """Write four images with their text files, and data.yaml."""
    (root / "labels").mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(GOOD):
        image(root / "images" / name, seed=number)
        (root / "labels" / f"{name[0]}.txt").write_text(f"{number % 2} 0.5 0.5 0.2 0.2\n")
    (root / "data.yaml").write_text("names: [cat, dog]\n")


def list_yolo(root: Path) -> Listing:
    """List that folder."""
    return LISTED["yolo"](Yolo(source="yolo", folder=str(root)), Path())


def _add(content: dict[str, Any], *annotations: dict[str, Any]) -> None:
    content["annotations"] += annotations


def _other_json(root: Path, content: dict[str, Any]) -> None:
    (root / "package.json").write_text('{"name": "labels"}')


def _captions(root: Path, content: dict[str, Any]) -> None:
    (root / "captions.json").write_text(json.dumps(coco({0: "a.png"}, {"image_id": 0, "caption": "x"})))


def _unlisted(root: Path, content: dict[str, Any]) -> None:
    image(root / "new.png", seed=9)


def _gone(root: Path, content: dict[str, Any]) -> None:
    content["images"].append({"id": 90, "file_name": "gone.png", "width": 40, "height": 30})


def _category(root: Path, content: dict[str, Any]) -> None:
    content["categories"].append({"id": 50, "name": "unicorn"})


def _twice(root: Path, content: dict[str, Any]) -> None:
    content["images"].append({**content["images"][1]})


COCO: dict[str, tuple[Callable[[Path, dict[str, Any]], None], str]] = {
    "another JSON file": (_other_json, "package.json"),
    "captions": (_captions, "captions.json"),
    "an image that is not listed": (_unlisted, "new.png"),
    "a listed image that is not there": (_gone, "gone.png"),
    "a category that is not used": (_category, "unicorn"),
    "an image that is listed twice": (_twice, "instances.json: b.png"),
    "an unknown category": (lambda _, content: _add(content, of(0, 99, 1, 1, 5, 5)), "(category 99)"),
    "an unknown image": (lambda _, content: _add(content, of(98, 0, 1, 1, 5, 5)), "(image 98)"),
    "three numbers": (lambda _, content: _add(content, of(0, 0, 1, 1, 5)), "a.png (cat)"),
    "no box": (lambda _, content: _add(content, of(2, 0)), "c.png (cat)"),
    "not a number": (lambda _, content: _add(content, of(3, 7, 1, float("nan"), 5, 5)), "1, nan, 5, 5"),
    "a box outside": (lambda _, content: _add(content, of(3, 7, 70, 1, 5, 5)), "70, 1, 5, 5"),
    "a line": (lambda _, content: _add(content, of(3, 7, 7, 1, 0, 5)), "7, 1, 0, 5"),
    "a box twice": (lambda _, content: _add(content, of(0, 0, 2, 3, 9, 8)), "a.png (cat at 2, 3, 9, 8)"),
    "a negative width": (lambda _, content: _add(content, of(0, 0, 30, 3, -9, 8)), "30, 3, -9, 8"),
    "a box beyond the edge": (lambda _, content: _add(content, of(0, 7, 35, 3, 9, 8)), "35, 3, 9, 8"),
}
"""Situation -> its generator, and a name that a remark must contain."""


def _append(name: str, row: str) -> Callable[[Path], None]:
    def add(root: Path) -> None:
        with (root / "labels" / name).open("a") as stream:
            stream.write(f"{row}\n")

    return add


def _alone(root: Path) -> None:
    (root / "labels" / "z.txt").write_text("0 0.5 0.5 0.2 0.2")


def _unlabelled(root: Path) -> None:
    image(root / "images" / "later" / "e.png", seed=8)


def _background(root: Path) -> None:
    image(root / "images" / "y.png", seed=7)


YOLO: dict[str, tuple[Callable[[Path], None], str]] = {
    "a text file without image": (_alone, "labels/z.txt"),
    "a folder without text files": (_unlabelled, "images/later/e.png"),
    "an image without text file": (_background, "images/y.png"),
    "an unknown class": (_append("a.txt", "9 0.5 0.5 0.1 0.1"), "(class 9)"),
    "a negative class": (_append("b.txt", "-1 0.5 0.5 0.1 0.1"), "(class -1)"),
    "a fraction of a class": (_append("b.txt", "0.5 0.5 0.5 0.1 0.1"), "(class 0.5)"),
    "not a number": (_append("c.txt", "0 nan 0.5 0.1 0.1"), "nan, 0.5, 0.1, 0.1"),
    "a box beyond the edge": (_append("c.txt", "0 0.9 0.5 0.4 0.1"), "0.9, 0.5, 0.4, 0.1"),
    "a box outside": (_append("d.txt", "1 1.4 0.5 0.1 0.1"), "1.4, 0.5, 0.1, 0.1"),
    "a box twice": (_append("a.txt", "0 0.5 0.5 0.2 0.2"), "a.png (cat at 0.5, 0.5, 0.2, 0.2)"),
    "a point": (_append("d.txt", "0 0.5 0.5 0 0"), "0.5, 0.5, 0, 0"),
    "an outline": (_append("d.txt", "0 0.1 0.1 0.4 0.1 0.4 0.4"), ""),
}
