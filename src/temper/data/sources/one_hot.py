"""Columns of a table with 0 and 1, one for each class."""

from typing import Any

from temper.data.sources.cell_text import is_empty, text_of

_YES, _NO = frozenset({"1", "1.0", "true", "yes"}), frozenset({"0", "0.0", "false", "no", "", "none", "nan"})


def find_one_hot(cells: dict[str, list[Any]]) -> list[str]:
    """Return the names of the columns that contain 0 and 1 and nothing else, and both."""
    wanted = {"0", "1"}
    return [
        name
        for name, column in cells.items()
        if {_flag(cell) for cell in column if not is_empty(cell)} == wanted
    ]


def _flag(cell: Any) -> str:
    text = str(int(cell)) if isinstance(cell, bool) else text_of(cell).lower()
    return {"1.0": "1", "0.0": "0", "true": "1", "false": "0"}.get(text, text)


def is_set(cell: Any, where: str, name: str) -> bool:
    """Return whether a cell says that the image shows the class; an empty one says no.

    Raises:
        ValueError: If it is neither 0 nor 1 nor empty.
    """
    text = text_of(cell).lower()
    if text in _YES or text in _NO:
        return text in _YES
    raise ValueError(f"{where} has {text!r} in the column {name!r} of ingest.one_hot; write 0 or 1")
