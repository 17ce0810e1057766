"""What a source will give, known before anything is copied or decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from temper.problem import Row


@dataclass(frozen=True)
class Listing:
    """The rows of a source whose files lie in the user's own folder, and where they lie."""

    rows: list[Row]
    names: Sequence[str]
    """Of all files, masks included, as they are called inside the archive."""
    find: Callable[[str], Path]
    """Where the file of a name lies."""
