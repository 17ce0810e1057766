"""What a table's cells say beside labels: numbers, and the places of points, each as the row's own truth."""

import json
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

from temper.data.remark import Remark, remark_on

Column = list[Any]


class Measured:
    """The columns of a table with numbers and places.

    Args:
        cells: Column of each name.
        values: Names of the columns with numbers.
        points: Name of a point -> names of the columns with its places across and down.

    Raises:
        ValueError: If both places of a point are in one column.
    """

    def __init__(
        self, cells: Mapping[str, Column], values: tuple[str, ...], points: Mapping[str, tuple[str, str]]
    ) -> None:
        for name, (across, down) in points.items():
            if across == down:
                raise ValueError(f"ingest.points: the point {name!r} has the column {across!r} twice")
        self._values = {name: cells[name] for name in values}
        self._points = {
            name: {column: cells[column] for column in columns} for name, columns in points.items()
        }

    def row(self, number: int, where: str) -> str | None:
        """Return the truth of a row as JSON; None if no column has any.

        Raises:
            ValueError: If a cell is no number, or a point has one place of two.
        """
        found: dict[str, Any] = {
            name: read_number(column[number], where, name, "ingest.values")
            for name, column in self._values.items()
        }
        if self._points:
            found["points"] = {name: self._point(number, where, name) for name in self._points}
        return json.dumps(found) if found else None

    def remarks(self) -> list[Remark]:
        """Return which columns repeat a number, far from all others, that may mean that nothing is known."""
        found = []
        for name, column in self._values.items():
            values = Counter(map(float, map(text_of, column)))
            for odd in (min(values), max(values)):
                others = [value for value in values if value != odd]
                apart = min((abs(value - odd) for value in others), default=0)
                if values[odd] > 1 and apart > max(others, default=0) - min(others, default=0) > 0:
                    found.append(f"{name}: {odd:g} in {values[odd]} rows")
        text = (
            "columns repeat a number that is far from all others; if it means that nothing is known, remove "
            "these rows"
        )
        return remark_on("noticed", text, found)

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


def is_empty(cell: Any) -> bool:
    """Return whether a cell contains nothing, or NaN."""
    return text_of(cell).lower() in ("", "nan", "none", "null")


def read_number(cell: Any, where: str, name: str, key: str) -> float:
    """Return the number in a cell.

    Raises:
        ValueError: If it is no finite number; the message names the column and the parameter of ingest.
    """
    try:
        value = float(text_of(cell).replace("_", "?"))  # Python alone takes 1_0 for 10
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(
            f"{where} has {text_of(cell)!r} in the column {name!r} of {key}; write a number such as 3.5, or "
            "remove the row"
        )
    return value


def text_of(cell: Any) -> str:
    """Return the text of a cell without blanks at its ends."""
    return "" if cell is None else str(cell).strip()
