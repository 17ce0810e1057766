"""Boxes from files of annotations, checked against their images: what is corrected or left out is counted."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from temper.data.remark import Remark, remark_on

_LEAST_PX = 1.01
"""Boxes whose both sides are at most this long are points, not boxes; shares are rounded, so not quite 1."""


@dataclass(frozen=True)
class Drawn:
    """A box as an annotation gives it."""

    label: str
    sides: Sequence[float]
    """Left, top, right and bottom in pixels, counted from 0."""
    written: Sequence[float]
    """The numbers in the file, for messages."""
    crowd: bool = False
    """Whether it is neither right nor wrong to find it: a crowd, or too difficult."""


@dataclass
class DrawnBoxes:
    """Checks boxes in the order in which they are read."""

    converted: dict[str, list[str]] = field(default_factory=dict)
    """What was corrected -> where."""
    left_out: dict[str, list[str]] = field(default_factory=dict)
    """Why boxes were left out -> where."""

    def check(self, boxes: Sequence[Drawn], size: tuple[float, float], where: str) -> list[dict[str, Any]]:
        """Return the boxes of an image that can be used, as a row holds them.

        Args:
            boxes: The boxes in the order of the file.
            size: Width and height of the image in pixels.
            where: Name of the image or of its annotation, for remarks.
        """
        found: dict[tuple[Any, ...], dict[str, Any]] = {}
        for each in boxes:
            name = f"{where} ({each.label} at {', '.join(f'{side:g}' for side in each.written)})"
            box, reason = self._correct(each.sides, size, name)
            if box is None:
                self.left_out.setdefault(reason, []).append(name)
            elif (each.label, *box) in found:
                self.left_out.setdefault("boxes are there twice, with the same label", []).append(name)
            else:
                row = {"label": each.label, "box": box}
                found[(each.label, *box)] = row | ({"crowd": True} if each.crowd else {})
        return list(found.values())

    def remarks(self) -> list[Remark]:
        """Return what was corrected, and what was left out."""
        return [
            *(each for text, names in self.converted.items() for each in remark_on("converted", text, names)),
            *(each for text, names in self.left_out.items() for each in remark_on("left out", text, names)),
        ]

    def _correct(
        self, sides: Sequence[float], size: tuple[float, float], name: str
    ) -> tuple[list[float] | None, str]:
        """Return left, top, right and bottom inside the image; or None and why the box cannot be used."""
        if not all(map(math.isfinite, sides)):
            return None, "boxes have sides that are no finite numbers"
        left, right = sorted((sides[0], sides[2]))
        top, bottom = sorted((sides[1], sides[3]))
        if (left, top) != (sides[0], sides[1]):
            self.converted.setdefault("boxes have left and right, or top and bottom, exchanged", []).append(
                name
            )
        if right - left <= _LEAST_PX and bottom - top <= _LEAST_PX:
            return None, "boxes are points: no side is longer than a pixel"
        if not (right > left and bottom > top):
            return None, "boxes are lines: they have no area"
        if right <= 0 or bottom <= 0 or left >= size[0] or top >= size[1]:
            return None, "boxes lie outside their image"
        inside = [max(left, 0.0), max(top, 0.0), min(right, size[0]), min(bottom, size[1])]
        if inside != [left, top, right, bottom]:
            self.converted.setdefault("boxes reach beyond their image, and are cut there", []).append(name)
        return inside, ""
