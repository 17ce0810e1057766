"""Masks that are drawn of the outlines in annotations: one class number per pixel, 0 is the background."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from temper.data.images.header import read_header, shown_size
from temper.data.images.mask_values import IGNORED
from temper.data.images.outlines import Outline, Polygon, Runs, draw_mask, encode_mask
from temper.data.remark import Remark, remark_on
from temper.data.sources.drawn_boxes import Drawn

BACKGROUND = "background"
_MOST_CLASSES = 254
Shape = tuple[str, Sequence[Polygon] | Runs | None, Drawn | None, bool]
"""Label, outline and box of an object, and whether it is neither right nor wrong."""


class DrawnMasks:
    """Draws the masks of images when they are asked for; until then, the outlines are in memory.

    Args:
        find: Returns the file of an image.
        stored: Whether outlines are counted in images as their pixels are stored.
    """

    def __init__(self, find: Callable[[str], Path], *, stored: bool) -> None:
        self._find, self._stored = find, stored
        self._numbers: dict[str, int] = {}
        self._outlines: dict[str, tuple[list[Outline], tuple[int, int]]] = {}
        self._drawn = 0
        self._only_boxes: list[str] = []
        self._nothing: list[str] = []
        self._crowds: list[str] = []
        self._wrong: dict[str, list[str]] = {}
        self._no_size: list[str] = []

    @property
    def numbers(self) -> Mapping[str, int]:
        """Label -> its number."""
        return self._numbers

    def number(
        self, order: Sequence[str], used: Collection[str], known: Mapping[str, int] | None = None
    ) -> None:
        """Give each label that has an outline a number, from 1; one called background is 0.

        Args:
            order: Labels in the order of their numbers.
            used: Labels that have an outline.
            known: Label -> number that it has already; others come behind.

        Raises:
            ValueError: If no object has an outline, or there are too many labels.
        """
        if not used and not known:
            raise ValueError(
                "ingest.truth = masks, but no object has an outline that could be drawn; set ingest.truth: "
                "boxes"
            )
        numbers = dict(known or {})
        new = [label for label in order if label in used and label not in numbers]
        named = [label for label in new if label.casefold() != BACKGROUND]
        last = max(numbers.values(), default=0) + len(named)
        if last > _MOST_CLASSES:
            raise ValueError(
                f"ingest.truth = masks: {last} labels have outlines, but a mask has numbers for "
                f"{_MOST_CLASSES}; merge some of them"
            )
        numbers |= {label: number for number, label in enumerate(named, last - len(named) + 1)}
        numbers |= {label: 0 for label in used if label.casefold() == BACKGROUND}
        self._numbers = numbers

    def add(
        self, name: str, shapes: Sequence[Shape], size: tuple[float, float] | None
    ) -> dict[str, int] | None:
        """Remember the outlines of an image.

        Args:
            name: Name of the image.
            shapes: Its objects.
            size: Width and height that the annotation states; None or 0 if it states none.

        Returns:
            Label -> number of the objects; None if the image is left out, since its size is not known.
        """
        whole = self._size(name, size)
        if whole is None:
            self._no_size.append(name)
            return None
        found, numbers = list[Outline](), dict[str, int]()
        for label, shape, box, crowd in shapes:
            where = f"{name} ({label})"
            usable = self._check(shape, whole, where)
            if usable is None and box is not None:
                left, top, right, bottom = box.sides
                usable = [np.array([[left, top], [right, top], [right, bottom], [left, bottom]], np.float64)]
                self._only_boxes.append(where)
                found.append(Outline(IGNORED, usable))
            elif usable is None:
                self._nothing.append(where)
            elif crowd:
                self._crowds.append(where)
                found.append(Outline(IGNORED, usable))
            else:
                self._drawn += 1
                numbers[label] = self._numbers[label]
                found.append(Outline(self._numbers[label], usable))
        self._outlines[name] = found, whole
        return numbers

    def member(self, name: str) -> str:
        """Return the name of the mask of an image in the archive of masks."""
        return f"{name}.png"

    def draw(self, member: str) -> bytes:
        """Return a mask as PNG; it is turned as its image is, if outlines count stored pixels."""
        name = member.removesuffix(".png")
        outlines, size = self._outlines[name]
        header = read_header(self._find(name)) if self._stored else None
        return encode_mask(draw_mask(outlines, size), orientation=header[1] if header else 1)

    def remarks(self) -> list[Remark]:
        """Return what was drawn, and what was not."""
        classes = {number: label for label, number in self._numbers.items()}
        listed = ", ".join(classes.get(number, BACKGROUND) for number in range(max(classes, default=0) + 1))
        return [
            Remark(
                "converted",
                f"outlines of {self._drawn} objects are drawn as masks with the classes [{listed}]",
            ),
            *remark_on("noticed", "outlines are crowds, and their pixels do not count", self._crowds),
            *remark_on(
                "converted", "objects have no outline: the pixels in their box do not count", self._only_boxes
            ),
            *remark_on("left out", "objects have neither an outline nor a box", self._nothing),
            *(each for text, names in self._wrong.items() for each in remark_on("left out", text, names)),
            *remark_on(
                "left out",
                "images have no size in their annotation, and their files cannot be read",
                self._no_size,
            ),
        ]

    def _size(self, name: str, size: tuple[float, float] | None) -> tuple[int, int] | None:
        """Return the stated size or, if there is none, that of the image as its outlines are counted."""
        if size is not None and all(0 < side < float("inf") for side in size):
            return int(size[0]), int(size[1])
        header = read_header(self._find(name))
        return None if header is None else header[0] if self._stored else shown_size(*header)

    def _check(
        self, shape: Sequence[Polygon] | Runs | None, size: tuple[int, int], where: str
    ) -> Sequence[Polygon] | Runs | None:
        """Return an outline that can be drawn; None if there is none."""
        if not isinstance(shape, Runs):
            return shape or None
        try:
            shape.check(size)
        except ValueError as error:
            self._wrong.setdefault("outlines cannot be drawn", []).append(f"{where}: {error}")
            return None
        return shape
