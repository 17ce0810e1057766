"""New images with the objects that their annotations list, as rows with the truth of the dataset."""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from temper.data.counted import PlacesIn
from temper.data.images.zip_archive import DRAWN
from temper.data.intake.offer import Draw
from temper.data.source_params import Truth
from temper.data.sources.annotated import AnnotatedImages, Size, Thing
from temper.data.sources.listing import Listing
from temper.problem import Row


class DroppedObjects:
    """New images and their objects.

    Args:
        truth: What the rows of the dataset say of objects.
        places_in: How places are counted in images that EXIF turns.
        labelled: Folder of the new images.
        points: Names of the points of the dataset.
        numbers: Label -> its number in the drawn masks of the dataset.
        has_class: Returns whether the dataset has a class with a label; None if that does not matter.
    """

    def __init__(
        self,
        truth: Truth,
        places_in: PlacesIn,
        labelled: Path,
        *,
        points: Collection[str] = (),
        numbers: Mapping[str, int] | None = None,
        has_class: Callable[[str], bool] | None = None,
    ) -> None:
        self._truth, self._places_in, self._labelled = truth, places_in, labelled
        self._points, self._has_class = list(points), has_class
        self._numbers = dict(numbers or {})
        self._read: dict[str, tuple[Sequence[Thing], Size | None]] = {}
        self._listings: dict[str, Listing] = {}

    def add(self, name: str, things: Sequence[Thing], size: Size | None) -> Row:
        """Add an image; return its row, with labels as its annotation spells them.

        Args:
            name: Name of the image.
            things: Its objects.
            size: Width and height that the annotation states; None if it states none.

        Raises:
            ValueError: If the dataset could not have it.
        """
        if self._truth == "points":
            shown = [thing for thing in things if thing.has_points]
            if len(shown) != 1:
                raise ValueError(
                    f"it shows {len(shown)} objects with known points, but an example has the points of one; "
                    "cut each object out into an image of its own"
                )
            if {*shown[0].points} - {*self._points}:
                raise ValueError(
                    f"its points are {', '.join(shown[0].points)}, but those of the dataset are "
                    f"{', '.join(self._points)}; call them as the dataset does"
                )
        self._read[name] = things, size
        images = self._images([name])
        rows = self._rows(images)
        if not rows:
            raise ValueError(
                "its annotation states no size, and the image cannot be read, so no mask is drawn"
            )
        (row,) = rows
        hidden = sorted({thing.label for thing in things} - {*row.labels})
        if unknown := [each for each in hidden if self._has_class and not self._has_class(each)]:
            raise ValueError(
                f"it has objects of {', '.join(unknown)}, a class that the dataset does not have, and none "
                f"of them can be used ({'; '.join(map(str, images.remarks(crowds='crowds')))}); correct or "
                "remove them"
            )
        return row

    def respell(self, name: str, renamed: Mapping[str, str]) -> Row:
        """Return the row of an image with labels as the dataset spells them, ready to be drawn."""
        things, size = self._read[name]
        spelt = [_respell(thing, renamed) for thing in things]
        self._read[name] = spelt, size
        images = self._images([name])
        rows = self._rows(images)
        # Images with different new classes must not give them one number.
        self._numbers = dict(images.numbers)
        self._listings[name] = images.listing(rows, self._labelled, (), ())
        return rows[0]

    def draw(self, member: str) -> bytes:
        """Return the mask of an image."""
        draw = self._listings[member.removesuffix(".png")].draw
        assert draw is not None
        return draw(member)

    def explain(self, names: Sequence[str], *, crowds: str) -> list[str]:
        """Return what was corrected and left out in some images, a line each.

        Args:
            names: Names of the images.
            crowds: What the annotations call objects that are neither right nor wrong.
        """
        images = self._images(names)
        self._rows(images)
        return [str(each) for each in images.remarks(crowds=crowds)]

    def _images(self, names: Sequence[str]) -> AnnotatedImages:
        images = AnnotatedImages(self._truth, self._places_in, self._labelled.joinpath)
        for name in names:
            images.add(name, *self._read[name], None)
        return images

    def _rows(self, images: AnnotatedImages) -> list[Row]:
        return images.rows(order=images.labels, points=self._points, numbers=self._numbers)


def say_objects(row: Row, draw: Draw | None) -> str:
    """Return what is true of an image, as a text that is equal if the objects are equal.

    Args:
        row: Its row.
        draw: Returns its mask, if masks are drawn.
    """
    truth, labels = json.loads(row.truth or "{}"), sorted(row.labels)
    if row.mask is not None and draw is not None:
        return hashlib.sha256(draw(row.mask.removeprefix(f"{DRAWN}/"))).hexdigest()
    boxes = sorted(json.dumps(each, sort_keys=True) for each in truth.get("boxes", []))
    return json.dumps([labels, boxes, truth.get("points")], sort_keys=True)


def _respell(thing: Thing, renamed: Mapping[str, str]) -> Thing:
    label = renamed.get(thing.label, thing.label)
    box = None if thing.box is None else replace(thing.box, label=label)
    return replace(thing, label=label, box=box)
