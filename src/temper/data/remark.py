"""Remarks: what was decided about the user's data without asking, or noticed in them."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any, Literal, NamedTuple

Kind = Literal["guessed", "left out", "converted", "noticed"]
NAMED = 20
"""Number of names that a remark keeps."""


class Note(NamedTuple):
    """Something to say about one file; a remark says it once for all of its files."""

    kind: Kind
    text: str


@dataclass(frozen=True)
class Remark:
    """Something that was decided about the user's data without asking, or noticed in them."""

    kind: Kind
    text: str
    """What was decided or noticed, and the parameter or step that decides otherwise, if there is one."""
    count: int = 0
    """Number of files or cells that it concerns; 0 if it concerns all."""
    names: tuple[str, ...] = ()
    """The first of their names."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(map(_shown, self.names)))

    def __str__(self) -> str:
        number = f" {self.count}" if self.count else ""
        names = ", ".join(self.names[:3]) + (", ..." if self.count > 3 else "")
        return f"{self.kind}:{number} {self.text}" + (f": {names}" if names else "")

    def record(self) -> dict[str, Any]:
        """Return the remark as a value for an artifact's facts."""
        return {**asdict(self), "names": list(self.names)}


def _shown(name: str) -> str:
    """Return a name that every page and terminal can show: what is not printable is written as its number."""
    if name.isprintable():
        return name
    plain = name.encode("utf-8", "backslashreplace").decode()
    return "".join(each if each.isprintable() else ascii(each)[1:-1] for each in plain)


def remark_on(kind: Kind, text: str, names: Iterable[str]) -> list[Remark]:
    """Return a remark about some names, or none if there are none."""
    found = list(names)
    return [Remark(kind, text, len(found), tuple(found[:NAMED]))] if found else []
