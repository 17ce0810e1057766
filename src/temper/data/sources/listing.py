"""The list of a source's examples, made before anything is copied or decoded, and remarks about it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from temper.problem import Row

_LISTED = 20
"""Number of names that a remark keeps."""


@dataclass(frozen=True)
class Remark:
    """Something that was decided about the user's data without asking."""

    kind: Literal["guessed", "left out", "converted"]
    text: str
    """What was decided, and the parameter or step that decides otherwise, if there is one."""
    count: int = 0
    """Number of files or cells that it concerns; 0 if it concerns all."""
    names: tuple[str, ...] = ()
    """The first of their names."""

    def __str__(self) -> str:
        number = f" {self.count}" if self.count else ""
        names = ", ".join(self.names[:3]) + (", ..." if self.count > 3 else "")
        return f"{self.kind}:{number} {self.text}" + (f": {names}" if names else "")

    def record(self) -> dict[str, Any]:
        """Return the remark as a value for an artifact's facts."""
        return {**asdict(self), "names": list(self.names)}


def remark_on(
    kind: Literal["guessed", "left out", "converted"], text: str, names: Iterable[str]
) -> list[Remark]:
    """Return a remark about some names, or none if there are none."""
    found = list(names)
    return [Remark(kind, text, len(found), tuple(found[:_LISTED]))] if found else []


@dataclass(frozen=True)
class Listing:
    """The rows of a source that reads the user's files, and the paths of these files."""

    rows: list[Row]
    names: Sequence[str]
    """Names inside the archive of all files, masks included."""
    find: Callable[[str], Path]
    """Returns the path of the file of a name."""
    remarks: tuple[Remark, ...] = ()
    read: tuple[Path, ...] = ()
    """Other files that the rows come from: the table."""
