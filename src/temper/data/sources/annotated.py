"""Rows of images whose objects are annotated: the boxes, the drawn mask, or the points of each image.

Sources read the objects from their files; what becomes of them is the same for all.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from temper.data.counted import PlacesIn, say_counted
from temper.data.images.outlines import Polygon, Runs
from temper.data.images.zip_archive import DRAWN, NAME
from temper.data.remark import Remark, remark_on
from temper.data.source_params import Truth
from temper.data.sources.drawn_boxes import Drawn, DrawnBoxes
from temper.data.sources.drawn_masks import DrawnMasks
from temper.data.sources.listing import Listing
from temper.problem import Row

Size = tuple[float, float]
"""Width and height of an image in pixels, as its annotation states them."""


@dataclass(frozen=True)
class Thing:
    """An object as an annotation describes it."""

    label: str
    box: Drawn | None = None
    shape: Sequence[Polygon] | Runs | None = None
    """Its outline, if there is one."""
    points: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    """Name of a point -> its place across and down in pixels; None if it is not known."""
    crowd: bool = False
    """Whether it is neither right nor wrong to find it."""

    @property
    def has_points(self) -> bool:
        """Whether the place of any point is known."""
        return not self.crowd and any(place is not None for place in self.points.values())


@dataclass(frozen=True)
class _Seen:
    """An image and its objects."""

    name: str
    things: Sequence[Thing]
    size: Size | None
    split: str | None


class AnnotatedImages:
    """Makes rows of images and their objects.

    Args:
        truth: What the rows say of the objects.
        places_in: How places are counted in images that EXIF turns.
        find: Returns the file of an image.
    """

    def __init__(self, truth: Truth, places_in: PlacesIn, find: Callable[[str], Path]) -> None:
        self._truth, self._places_in = truth, places_in
        self._boxes, self._masks = DrawnBoxes(), DrawnMasks(find, stored=places_in == "stored")
        self._points: Sequence[str] = ()
        self._seen: list[_Seen] = []
        self._crowds: list[str] = []
        self._empty: list[str] = []
        self._several: list[str] = []
        self._without: list[str] = []

    def add(self, name: str, things: Sequence[Thing], size: Size | None, split: str | None) -> None:
        """Add an image.

        Args:
            name: Path of the image below the user's folder.
            things: Its objects.
            size: Width and height that the annotation states; None if it states none.
            split: Its split, None if none is fixed.
        """
        self._seen.append(_Seen(name, things, size, split))

    @property
    def labels(self) -> list[str]:
        """Labels of all objects, sorted."""
        return sorted({thing.label for each in self._seen for thing in each.things})

    @property
    def numbers(self) -> Mapping[str, int]:
        """Label -> its number in masks; empty for other truths."""
        return self._masks.numbers

    def rows(
        self,
        *,
        order: Sequence[str] = (),
        points: Sequence[str] = (),
        numbers: Mapping[str, int] | None = None,
    ) -> list[Row]:
        """Return the rows of all images that can be used, in the order in which they were added.

        Args:
            order: Labels in the order in which masks number them.
            points: Names of the points.
            numbers: Label -> its number in the masks of other images.
        """
        self._points = points
        if self._truth == "masks":
            things = [thing for each in self._seen for thing in each.things]
            used = {thing.label for thing in things if thing.shape and not thing.crowd}
            self._masks.number(order, used, numbers)
        make = {"boxes": self._boxed, "masks": self._masked, "points": self._pointed}[self._truth]
        return [row for each in self._seen if (row := make(each)) is not None]

    def listing(
        self, rows: list[Row], root: Path, remarks: Sequence[Remark], read: Sequence[Path]
    ) -> Listing:
        """Return the listing of the rows.

        Args:
            rows: What `rows` returned.
            root: The user's folder.
            remarks: All remarks.
            read: Files of annotations.
        """
        names = [row.id for row in rows]
        drawn = self._truth == "masks"
        return Listing(
            rows,
            names,
            lambda name: str(root / name),
            tuple(remarks),
            tuple(read),
            tuple(map(self._masks.member, names)) if drawn else (),
            self._masks.draw if drawn else None,
        )

    def remarks(self, *, crowds: str) -> list[Remark]:
        """Return what was corrected, and what was left out.

        Args:
            crowds: What the annotations call objects that are neither right nor wrong.
        """
        several = (
            "images show several objects with points, but a row has the points of one; cut each object out "
            "into an image of its own"
        )
        return [
            *remark_on("noticed", f"{crowds}, and are neither right nor wrong", self._crowds),
            *remark_on("noticed", "images show no object", self._empty),
            *remark_on("left out", several, self._several),
            *remark_on("left out", "images show no object with known points", self._without),
            *self._boxes.remarks(),
            *(self._masks.remarks() if self._truth == "masks" else []),
        ]

    def _boxed(self, seen: _Seen) -> Row:
        """Return a row with boxes: `label`, `box` (left, top, right, bottom) and perhaps `crowd`."""
        drawn = [thing.box for thing in seen.things if thing.box is not None]
        size = seen.size or (0, 0)
        boxes = self._boxes.check(drawn, (size[0] or math.inf, size[1] or math.inf), seen.name)
        self._crowds += [f"{seen.name} ({box['label']})" for box in boxes if box.get("crowd")]
        if not seen.things:
            self._empty.append(seen.name)
        return self._row(seen, [box["label"] for box in boxes], {"boxes": boxes} | self._counted(seen))

    def _pointed(self, seen: _Seen) -> Row | None:
        """Return a row with the points of the only object that has any; None if there is none, or several."""
        shown = [thing for thing in seen.things if thing.has_points]
        if len(shown) != 1:
            (self._several if shown else self._without).append(seen.name)
            return None
        points = {name: shown[0].points.get(name) for name in self._points}
        return self._row(seen, [shown[0].label], {"points": points} | self._counted(seen))

    def _masked(self, seen: _Seen) -> Row | None:
        """Return a row with a mask that is still to be drawn; None if the size of the image is not known."""
        shapes = [(thing.label, thing.shape, thing.box, thing.crowd) for thing in seen.things]
        numbers = self._masks.add(seen.name, shapes, seen.size)
        if numbers is None:
            return None
        if not seen.things:
            self._empty.append(seen.name)
        return self._row(seen, list(numbers), {"numbers": numbers}, mask=self._masks.member(seen.name))

    def _counted(self, seen: _Seen) -> dict[str, Any]:
        return say_counted(seen.size, self._places_in)

    def _row(
        self, seen: _Seen, labels: Sequence[str], truth: Mapping[str, Any], mask: str | None = None
    ) -> Row:
        return Row(
            seen.name,
            f"{NAME}/{seen.name}",
            labels=tuple(dict.fromkeys(labels)),
            mask=mask and f"{DRAWN}/{mask}",
            split=seen.split,
            truth=json.dumps(truth),
        )
