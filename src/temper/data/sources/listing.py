"""The list of a source's examples, made before anything is copied or decoded."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from temper.data.remark import Remark
from temper.problem import Row


@dataclass(frozen=True)
class Listing:
    """The rows of a source that reads the user's files, and the paths of these files."""

    rows: list[Row]
    names: Sequence[str]
    """Names inside the archive of all files, masks included, but for those that are drawn."""
    place: Callable[[str], str]
    """Returns the path of the file of a name, as text: a Path for each of many files takes time."""
    remarks: tuple[Remark, ...] = ()
    read: tuple[Path, ...] = ()
    """Other files that the rows come from: the table."""
    drawn: tuple[str, ...] = ()
    """Names of files that the source makes (masks of outlines), inside an archive of their own."""
    draw: Callable[[str], bytes] | None = None
    """Returns the content of such a file."""

    def find(self, name: str) -> Path:
        """Return the path of the file of a name."""
        return Path(self.place(name))
