"""What a table's cells say beside labels: numbers, places of points, and boxes, as the row's own truth."""

import json
from collections import Counter
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from temper.data.counted import PlacesIn, say_counted
from temper.data.remark import Remark, remark_on
from temper.data.sources.box_cells import BoxCells
from temper.data.sources.cell_text import is_empty, read_number, text_of

Column = list[Any]
ODD = (
    "are far from all others, or repeat much more often; if they mean that nothing is known, or are mistakes"
)
"""What is said of odd numbers."""
_FEW_NUMBERS = 8
"""Number of different numbers up to which each may repeat as it likes."""
_FAR = 30
"""How many times farther than the middle half is wide a number is odd."""


class Measured:
    """The columns of a table with numbers and places.

    Args:
        cells: Column of each name.
        values: Names of the columns with numbers.
        points: Name of a point -> names of the columns with its places across and down.
        boxes: Name of the column with boxes; None if there is none.
        boxes_in: How places are counted in images that EXIF turns.

    Raises:
        ValueError: If both places of a point are in one column.
    """

    def __init__(
        self,
        cells: Mapping[str, Column],
        values: tuple[str, ...] = (),
        points: Mapping[str, tuple[str, str]] = MappingProxyType({}),
        boxes: str | None = None,
        boxes_in: PlacesIn = "upright",
    ) -> None:
        for name, (across, down) in points.items():
            if across == down:
                raise ValueError(f"ingest.points: the point {name!r} has the column {across!r} twice")
        self._values = {name: cells[name] for name in values}
        self._points = {
            name: {column: cells[column] for column in columns} for name, columns in points.items()
        }
        self._boxes_in: PlacesIn = boxes_in
        self._boxes = BoxCells(boxes, cells[boxes]) if boxes is not None else None
        self._refuse_shares()

    def _refuse_shares(self) -> None:
        """Refuse places that are all from 0 to 1: shares of the image, not pixels.

        Raises:
            ValueError: Names the rule.
        """
        texts = {
            text_of(cell)
            for columns in self._points.values()
            for column in columns.values()
            for cell in column
        }
        try:
            values = [float(text) for text in texts if not is_empty(text)]
        except ValueError:
            return  # reading the row says which cell is no number
        if len(values) > _FEW_NUMBERS and min(values) >= 0 and max(values) <= 1:
            raise ValueError(
                "ingest.points: all places are from 0 to 1, so they are shares of the image; places must be "
                "in pixels: multiply them by the width and height of each image"
            )

    def row(self, number: int, where: str) -> tuple[str | None, tuple[str, ...]]:
        """Return the truth of a row as JSON, None if no column has any; and the labels of its boxes.

        Raises:
            ValueError: If a cell is no number, or holds no boxes, or a point has one place of two.
        """
        found: dict[str, Any] = {
            name: read_number(column[number], where, name, "ingest.values")
            for name, column in self._values.items()
        }
        if self._points:
            found["points"] = {name: self._point(number, where, name) for name in self._points}
        if self._boxes is not None:
            found["boxes"] = self._boxes.row(number, where)
        if self._points or self._boxes is not None:
            found |= say_counted(None, self._boxes_in)
        labels = dict.fromkeys(box["label"] for box in found.get("boxes", []))
        return json.dumps(found) if found else None, tuple(labels)

    def check(self) -> None:
        """Check what only all rows together show.

        Raises:
            ValueError: If boxes are shares of the image.
        """
        if self._boxes is not None:
            self._boxes.check()

    def remarks(self) -> list[Remark]:
        """Return which columns repeat a number, far from all others, that may mean that nothing is known."""
        found = []
        for name, column in self._values.items():
            values = Counter(map(float, map(text_of, column)))
            found += [f"{name}: {odd:g} in {values[odd]} rows" for odd in find_odd(values)]
        places = Counter(
            f"{name} at ({', '.join(text_of(cell) for cell in pair)})"
            for name, columns in self._points.items()
            for pair in zip(*columns.values(), strict=True)
            if not any(map(is_empty, pair))
        )
        total = len(next(iter(next(iter(self._points.values())).values()))) if self._points else 0
        repeated = [
            f"{place} in {count} rows" for place, count in places.items() if count > max(3, total / 10)
        ]
        return [
            *remark_on(
                "noticed",
                f"numbers of columns {ODD}, correct or remove these rows",
                found,
            ),
            *remark_on(
                "noticed",
                "places of points repeat; if they mean that the point is not known, empty these cells",
                repeated,
            ),
        ]

    def _point(self, number: int, where: str, name: str) -> list[float] | None:
        """Return the place of a point; None if both of its cells are empty, since it is then not known."""
        cells = {column: values[number] for column, values in self._points[name].items()}
        empty = [column for column, cell in cells.items() if is_empty(cell)]
        if len(empty) == len(cells):
            return None
        if empty:
            raise ValueError(
                f"{where} has only one of the two places of the point {name!r}: {empty[0]!r} is empty; fill "
                "it in, or empty the other one, too"
            )
        return [read_number(cell, where, column, "ingest.points") for column, cell in cells.items()]


def find_odd(values: Mapping[float, int]) -> list[float]:
    """Return the numbers that may be no measurements: far from all others, or repeated much more often.

    Args:
        values: How often each number occurs.

    Example:
        >>> find_odd({**dict.fromkeys(range(20, 60), 1), -1: 12, 1e30: 1}), find_odd({1: 20, 2: 20, 5: 20})
        ([-1, 1e+30], [])
    """
    if len(values) <= _FEW_NUMBERS:
        return []
    ordered, total = sorted(values), sum(values.values())
    often = sorted(values.values())[-2]
    quarter = len(ordered) // 4
    middle = ordered[-1 - quarter] - ordered[quarter]
    found = {
        value
        for value in (ordered[0], ordered[-1])
        if max(ordered[quarter] - value, value - ordered[-1 - quarter]) > _FAR * middle
    }
    found |= {value for value, count in values.items() if count > max(3 * often, 0.05 * total, 2)}
    return sorted(found)
