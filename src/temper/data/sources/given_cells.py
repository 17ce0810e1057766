"""What a table's cells give of an example besides its image: a text, and numbers that may be missing."""

import json
import unicodedata
from collections.abc import Mapping
from typing import Any

from temper.data.remark import Remark, remark_on
from temper.data.sources.cell_text import is_empty, read_number, text_of


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
        """Return which texts are empty, and which numbers are missing."""
        columns = [f"{name} in {count} rows" for name, count in self._missing.items()]
        text = "columns of ingest.numbers have empty cells, which are taken as missing, not as 0"
        return [
            *remark_on("noticed", "rows have an empty text", self._empty),
            *remark_on("guessed", text, columns),
        ]

    def _number(self, number: int, where: str, name: str) -> float | None:
        cell = self._numbers[name][number]
        if is_empty(cell):
            self._missing[name] = self._missing.get(name, 0) + 1
            return None
        return read_number(cell, where, name, "ingest.numbers")
