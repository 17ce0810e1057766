"""Rows of YOLO's text files: a class number, and a box, an outline or points as shares of the image."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from temper.data.images.outlines import as_polygon, hull
from temper.data.remark import Remark, remark_on
from temper.data.sources.annotated import Thing
from temper.data.sources.drawn_boxes import Drawn

_BOX = 4
_LEAST_OUTLINE = 6
_ROUNDED_PX = 0.5
"""Shares are rounded, so that a side may be this far outside an image that it touches."""


@dataclass
class YoloRows:
    """Reads rows, and counts those that cannot be used.

    Args:
        names: Number -> label; None if classes are called by their numbers.
        points: Number of points of an object, and of the numbers for each; None if rows have no points.
        point_names: Names of the points.
    """

    names: Mapping[int, str] | None
    points: tuple[int, int] | None
    point_names: Sequence[str]
    used: set[int] = field(default_factory=set)
    unknown: list[str] = field(default_factory=list)
    beyond: list[str] = field(default_factory=list)
    """Rows whose first place lies outside the image to the right and below."""
    count: int = 0

    def read(self, text: str, where: str) -> list[list[float]]:
        """Return the numbers of each row.

        Args:
            text: Content of a file.
            where: Its name, for messages.

        Raises:
            ValueError: If a row has other signs than numbers and blanks, or not as many numbers as it must.
        """
        found = []
        for number, line in enumerate(text.splitlines(), 1):
            words = line.split()
            if not words:
                continue
            place = f"{where}, line {number}"
            try:
                numbers = [float(word) for word in words]
            except ValueError:
                hint = "; separate numbers by blanks, not by commas" if "," in line or ";" in line else ""
                raise ValueError(
                    f"{place} is {line.strip()[:60]!r}, but a row is numbers only: class, and shares of the "
                    f"image{hint}; correct or remove it"
                ) from None
            self._check_count(len(numbers), place)
            self.count += 1
            if len(numbers) > 2 and numbers[1] > 1 and numbers[2] > 1:
                self.beyond.append(place)
            found.append(numbers)
        return found

    def things(self, rows: Sequence[Sequence[float]], size: tuple[int, int], where: str) -> list[Thing]:
        """Return the objects of rows, in pixels of an image of this width and height."""
        found = []
        for number, *numbers in rows:
            label = self._label(number)
            if label is None:
                self.unknown.append(f"{where} (class {number:g})")
                continue
            self.used.add(int(number))
            found.append(self._thing(label, numbers, size))
        return found

    def check(self) -> None:
        """Check what only all rows together show.

        Raises:
            ValueError: If numbers are pixels, not shares.
        """
        if self.count and 2 * len(self.beyond) > self.count:
            raise ValueError(
                f"{len(self.beyond)} of {self.count} rows lie beyond their image, the first one in "
                f"{self.beyond[0]}: their numbers look like pixels, but YOLO's rows are shares of the image: "
                "divide them by its width and height"
            )

    @property
    def order(self) -> list[str]:
        """Labels in the order of their numbers."""
        return [label for number in sorted(self.used) if (label := self._label(float(number))) is not None]

    def remarks(self) -> list[Remark]:
        """Return what cannot be used, and what is odd about the names."""
        names = self.names or {}
        ids: dict[str, list[int]] = {}
        for number, label in names.items():
            ids.setdefault(label, []).append(number)
        twice = [f"{label} ({', '.join(map(str, each))})" for label, each in ids.items() if len(each) > 1]
        highest = f"; names has {min(names)} to {max(names)}" if names else ""
        return [
            *remark_on("left out", f"rows have a class number without a name{highest}", self.unknown),
            *remark_on("converted", "classes have several numbers, and are one class each", twice),
            *remark_on(
                "noticed",
                "classes of the names are never used, and are no classes",
                [label for label, each in ids.items() if not self.used & {*each}],
            ),
        ]

    def _check_count(self, count: int, place: str) -> None:
        """Check the number of numbers in a row.

        Raises:
            ValueError: Names what is possible.
        """
        rest = count - 1
        if rest == _BOX:
            return
        if self.points is not None:
            each, numbers = self.points
            if rest == _BOX + each * numbers:
                return
            raise ValueError(
                f"{place} has {count} numbers, but kpt_shape: [{each}, {numbers}] makes them "
                f"{1 + _BOX + each * numbers}, or {1 + _BOX} without points; correct the row or kpt_shape"
            )
        if rest >= _LEAST_OUTLINE and rest % 2 == 0:
            return
        raise ValueError(
            f"{place} has {count} numbers, but a row is class, x, y, width and height (5 numbers), or class "
            "and the corners of an outline (7, 9, ...; rows with points need kpt_shape in data.yaml); "
            "correct or remove it"
        )

    def _label(self, number: float) -> str | None:
        if not number.is_integer():
            return None
        if self.names is None:
            return str(int(number)) if number >= 0 else None
        return self.names.get(int(number))

    def _thing(self, label: str, numbers: list[float], size: tuple[int, int]) -> Thing:
        width, height = size
        if self.points is None and len(numbers) > _BOX:
            places = [share * side for share, side in zip(numbers, size * (len(numbers) // 2), strict=True)]
            polygon = as_polygon(places)
            sides = [float("nan")] * _BOX if polygon is None else hull([polygon])
            shape = None if polygon is None else [polygon]
            return Thing(label, Drawn(label, _snap(sides, size), numbers[:_BOX]), shape)
        across, down, wide, high = numbers[:_BOX]
        sides = [
            (across - wide / 2) * width,
            (down - high / 2) * height,
            (across + wide / 2) * width,
            (down + high / 2) * height,
        ]
        box = Drawn(label, _snap(sides, size), numbers[:_BOX])
        return Thing(label, box, points=self._points(numbers[_BOX:], size))

    def _points(self, numbers: list[float], size: tuple[int, int]) -> dict[str, tuple[float, float] | None]:
        """Return the places of points; one at the corner (0, 0), or that is not visible, is not known."""
        if self.points is None or not numbers:
            return {}
        found: dict[str, tuple[float, float] | None] = {}
        for name, place in zip(
            self.point_names, np.array(numbers).reshape(self.points).tolist(), strict=True
        ):
            across, down, *visible = place
            known = visible[0] > 0 if visible else (across, down) != (0, 0)
            whole = known and np.isfinite(place).all()
            found[name] = (across * size[0], down * size[1]) if whole else None
        return found


def _snap(sides: Sequence[float], size: tuple[int, int]) -> list[float]:
    """Return sides with those at the image's edge that are nearly outside, since shares are rounded."""
    return [
        min(max(side, 0.0), float(end)) if -_ROUNDED_PX <= side <= end + _ROUNDED_PX else side
        for side, end in zip(sides, size * 2, strict=True)
    ]
