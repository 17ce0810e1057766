"""What a table's cells give of an example besides its image: a text, and numbers that may be missing."""

import json
import unicodedata
from collections import Counter
from collections.abc import Mapping
from typing import Any

from temper.data.remark import Remark, remark_on
from temper.data.sources.cell_text import is_empty, read_number, text_of
from temper.data.sources.measured_cells import ODD, find_odd


class GivenCells:
    """The columns of a table with texts and numbers that are inputs.

    Args:
        cells: Column of each name.
        text: Name of the column with the texts; None if there are none.
        numbers: Names of the columns with numbers.
    """

    def __init__(
        self, cells: Mapping[str, list[Any]], text: str | None = None, numbers: tuple[str, ...] = ()
    ) -> None:
        self._texts = cells[text] if text is not None else None
        self._numbers = {name: cells[name] for name in numbers}
        self._empty: list[str] = []
        self._missing: dict[str, int] = {}
        self._seen: dict[str, Counter[float]] = {name: Counter() for name in numbers}

    def row(self, number: int, where: str) -> str | None:
        """Return what a row gives as JSON; None if no column is named.

        Raises:
            ValueError: If a cell is neither empty nor a finite number.
        """
        found: dict[str, Any] = {}
        if self._texts is not None:
            found["text"] = unicodedata.normalize("NFC", text_of(self._texts[number]))
            if not found["text"]:
                self._empty.append(where)
        if self._numbers:
            found["table"] = {name: self._number(number, where, name) for name in self._numbers}
        return json.dumps(found, ensure_ascii=False) if found else None

    def remarks(self) -> list[Remark]:
        """Return which texts are empty, which numbers are missing, and which say nothing or are odd."""
        columns = [f"{name} in {count} rows" for name, count in self._missing.items()]
        text = "columns of ingest.numbers have empty cells, which are taken as missing, not as 0"
        useless, odd = [], []
        for name, values in self._seen.items():
            if len(values) < 2:
                useless.append(f"{name} ({'empty' if not values else next(iter(values))} in all rows)")
            odd += [f"{name}: {each:g} in {values[each]} rows" for each in find_odd(values)]
        return [
            *remark_on("noticed", "rows have an empty text", self._empty),
            *remark_on("guessed", text, columns),
            *remark_on("noticed", "columns of ingest.numbers say nothing, being equal in all rows", useless),
            *remark_on("noticed", f"numbers of ingest.numbers {ODD}, empty these cells", odd),
        ]

    def _number(self, number: int, where: str, name: str) -> float | None:
        cell = self._numbers[name][number]
        if is_empty(cell):
            self._missing[name] = self._missing.get(name, 0) + 1
            return None
        value = read_number(cell, where, name, "ingest.numbers")
        self._seen[name][value] += 1
        return value
