"""What a cell of a table contains: a text, a number, or nothing."""

import math
from typing import Any


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
