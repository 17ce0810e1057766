"""All files below a folder. Links are followed, and what is not read is named."""

import os
from dataclasses import dataclass, field

from temper.data.remark import Remark, remark_on
from temper.data.sources.litter import is_companion, is_litter


@dataclass
class Walk:
    """Names of what was found below a folder, relative to it."""

    files: list[str] = field(default_factory=list)
    litter: list[str] = field(default_factory=list)
    """Files and folders that are never images."""
    companions: list[str] = field(default_factory=list)
    """Notes, settings and labels beside images, by their endings."""
    broken: list[str] = field(default_factory=list)
    """Links whose target does not exist."""
    loops: list[str] = field(default_factory=list)
    """Links to a folder in which they lie."""
    special: list[str] = field(default_factory=list)
    """Sockets, pipes and devices."""
    unnamed: list[str] = field(default_factory=list)
    """Files whose names are not UTF-8, with those bytes as `\\udce9`."""

    def add(self, other: "Walk", prefix: str) -> None:
        """Add what was found in a folder whose name is `prefix`."""
        for name in ("files", "litter", "companions", "broken", "loops", "special", "unnamed"):
            getattr(self, name).extend(f"{prefix}/{each}" for each in getattr(other, name))

    def remarks(self) -> list[Remark]:
        """Return what was left out."""
        return [
            *remark_on("left out", "files and folders of the system, hidden or unfinished", self.litter),
            *remark_on("left out", "files whose endings say that they are no images", self.companions),
            *remark_on("left out", "links whose target does not exist", self.broken),
            *remark_on("left out", "links to a folder in which they lie", self.loops),
            *remark_on("left out", "sockets, pipes or devices", self.special),
        ]


def list_files(folder: str, above: tuple[str, ...] = ()) -> Walk:
    """Return all files below a folder, in the order of their path parts.

    Args:
        folder: Path of the folder.
        above: Real paths of the folders through which it was reached.
    """
    found, stack = Walk(), (*above, os.path.realpath(folder))
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    for entry in ordered:
        is_folder = entry.is_dir()
        if is_litter(entry.name, folder=is_folder):
            found.litter.append(entry.name)
        elif is_folder:
            if entry.is_symlink() and _contains(os.path.realpath(entry.path), stack):
                found.loops.append(entry.name)
            else:
                found.add(list_files(entry.path, stack), entry.name)
        elif not (entry.name.isascii() or _is_text(entry.name)):
            found.unnamed.append(entry.name.encode("utf-8", "backslashreplace").decode())
        elif entry.is_file() and is_companion(entry.name):
            found.companions.append(entry.name)
        elif entry.is_file():
            found.files.append(entry.name)
        else:
            (found.broken if entry.is_symlink() else found.special).append(entry.name)
    return found


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _contains(target: str, stack: tuple[str, ...]) -> bool:
    return any(f"{folder}/".startswith(f"{target.rstrip('/')}/") for folder in stack)
