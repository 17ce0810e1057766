"""The boxes of objects in a cell of a table, as JSON."""

import json
import math
import unicodedata
from typing import Any

from temper.data.sources.cell_text import is_empty, text_of

_WAY = 'write [{"label": "cat", "box": [left, top, right, bottom]}], in pixels of the image'
_KEYS = {"label", "box", "crowd"}


class BoxCells:
    """A column with the boxes of each image.

    Args:
        name: Name of the column.
        cells: Its cells: JSON, or lists of mappings from a Parquet file. An empty cell means no objects.
    """

    def __init__(self, name: str, cells: list[Any]) -> None:
        self._name, self._cells = name, cells
        self._largest, self._seen = 0.0, 0

    def row(self, number: int, where: str) -> list[dict[str, Any]]:
        """Return the boxes of a row: `label`, `box` (left, top, right, bottom in pixels) and perhaps `crowd`.

        Raises:
            ValueError: If a cell is no list of boxes; names the row, the column and the rule.
        """
        cell = self._cells[number]
        if not isinstance(cell, list) and is_empty(cell):
            return []
        try:
            listed = cell if isinstance(cell, list) else json.loads(text_of(cell))
        except ValueError as error:
            raise self._wrong(where, f"is no JSON ({error})") from None
        if not isinstance(listed, list):
            raise self._wrong(where, "is no list")
        return [self._box(each, where) for each in listed]

    def check(self) -> None:
        """Refuse boxes that are all within 0 and 1, once all rows were read: shares of the image, not pixels.

        Raises:
            ValueError: Names the rule.
        """
        if self._seen > 1 and self._largest <= 1:
            raise ValueError(
                f"ingest.boxes = {self._name!r}: all boxes are within 0 and 1, so they are shares of the "
                "image; multiply them by the width and height of each image, since boxes must be in pixels"
            )

    def _box(self, each: Any, where: str) -> dict[str, Any]:
        if not isinstance(each, dict) or not {"label", "box"} <= each.keys():
            raise self._wrong(where, f"has {json.dumps(each, default=str)}, which lacks a label or a box")
        if unknown := sorted(each.keys() - _KEYS):
            raise self._wrong(where, f"has the unknown key {unknown[0]!r} besides label, box and crowd")
        label, box, crowd = each["label"], each["box"], each.get("crowd")
        if not isinstance(label, str | int) or isinstance(label, bool) or not str(label).strip():
            raise self._wrong(where, f"has the label {label!r}, which is no text")
        numbers = isinstance(box, list) and len(box) == 4 and not any(isinstance(side, bool) for side in box)
        if not numbers or not all(isinstance(side, int | float) and math.isfinite(side) for side in box):
            raise self._wrong(where, f"has the box {box}, which is not four finite numbers")
        if not isinstance(crowd, bool | int | None) or crowd not in (None, 0, 1):
            raise self._wrong(where, f"has crowd = {crowd!r}, which is neither true nor false")
        self._seen += 1
        self._largest = max(self._largest, *map(abs, box))
        name = unicodedata.normalize("NFC", str(label).strip())
        return {"label": name, "box": box} | ({"crowd": True} if crowd else {})

    def _wrong(self, where: str, what: str) -> ValueError:
        return ValueError(f"{where}: the cell of {self._name!r} (ingest.boxes) {what}; {_WAY}")
