"""The files that a table names: found also if the table writes their paths a little differently."""

import difflib
import os
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from temper.data.remark import Remark, remark_on
from temper.data.sources.litter import is_companion, is_image, is_litter

_LISTED = 5
_BYTES = re.compile(r"b(['\"]).*\1$", re.DOTALL)


@dataclass
class NamedFiles:
    """The files that a table names, each under a name of its own in the archive."""

    root: Path
    """Folder to which the paths are relative."""
    found: dict[str, str] = field(default_factory=dict)
    """Name in the archive -> path of the file."""
    _converted: dict[str, None] = field(default_factory=dict)
    """Paths that were written otherwise than the files are called."""
    _missing: list[str] = field(default_factory=list)
    _members: dict[str, str] = field(default_factory=dict)
    _folders: dict[Path, "_Folder"] = field(default_factory=dict)

    def add(self, path: str) -> str:
        """Add the file of a path; return its name in the archive. Equal files have equal names."""
        file = self._locate(path)
        key = os.path.realpath(file) if ".." in path and ".." in Path(file).parts else file
        if key not in self._members:
            member = path if _is_plain(path) else _member(path)
            while member in self.found:
                member = f"_{member}"
            self._members[key], self.found[member] = member, file
        return self._members[key]

    def check(self, table: str) -> None:
        """Check that all files exist.

        Raises:
            ValueError: Names the first missing ones, and files that may be meant.
        """
        if self._missing:
            listed = ", ".join(str(self.root / path) for path in self._missing[:_LISTED])
            more = ", ..." if len(self._missing) > _LISTED else ""
            if folders := [path for path in self._missing if (self.root / path).is_dir()]:
                raise ValueError(
                    f"{table}: {folders[0]!r} is a folder, not an image ({len(folders)} such paths); write a "
                    "row for each image in it"
                )
            hint = next(filter(None, map(self._suggest, self._missing[:_LISTED])), "")
            raise ValueError(
                f"{table}: these files do not exist ({len(self._missing)} in all): {listed}{more}; "
                f"paths are relative to the table's folder{hint or _explain_bytes(self._missing[0])}"
            )

    def remarks(self) -> list[Remark]:
        """Return which paths are written otherwise than the files are called."""
        text = "paths written for Windows, in other case or form of Unicode, or without the file's ending"
        return [*remark_on("converted", text, self._converted), *self._remark_on_unnamed()]

    def _remark_on_unnamed(self) -> list[Remark]:
        """Return which images lie in the folders of the files that the table names, but are in no row."""
        folders = sorted({path.rpartition(os.sep)[0] for path in self._members})
        beside = [entry for folder in folders for entry in os.scandir(folder or os.sep)]
        unnamed = [
            os.path.relpath(entry.path, self.root)
            for entry in sorted(beside, key=lambda entry: entry.path)
            if entry.path not in self._members and is_image(entry.name) and not is_litter(entry.name)
        ]
        return remark_on("left out", "images lie beside those of the table, but no row names them", unnamed)

    def _locate(self, path: str) -> str:
        """Find a file. What differs in spelling from exactly one file means that file."""
        # Calls for text, since a Path for each of many files takes time.
        file = os.path.join(self.root, path) if _is_plain(path) else str(self.root / path)  # noqa: PTH118
        if os.path.isfile(file):  # noqa: PTH113
            return file
        for other in dict.fromkeys((path.replace("\\", "/"), path)):
            place = self.root / other
            if place.is_file() or (name := self._folder(place.parent).find(place.name)):
                self._converted[path] = None
                return str(place if place.is_file() else place.with_name(name))
        self._missing.append(path)
        return file

    def _folder(self, path: Path) -> "_Folder":
        if path not in self._folders:
            self._folders[path] = _Folder(path)
        return self._folders[path]

    def _suggest(self, path: str) -> str:
        """Return which file may be meant by the path of a missing one; empty if there is none."""
        place = self.root / path.replace("\\", "/")
        folder = self._folder(place.parent)
        if others := folder.same(place.name):
            return f"; the nearest to {place.name!r} is {others[0]!r}"
        for inside in _subfolders(self.root):
            if (inside / path).is_file() or self._holds(inside, path):
                name = inside.name
                return (
                    f"; {name}/ holds {path!r}: move the table there, or write {name}/ in front of its paths"
                )
        parts = place.parts
        for start in range(1, len(parts)):
            tail = Path(*parts[start:])
            if (self.root / tail).is_file():
                return f"; {tail} is there: the paths are those of another computer or folder"
        others = folder.near(place.name)
        return f"; the nearest to {place.name!r} is {others[0]!r}" if others else ""

    def _holds(self, folder: Path, path: str) -> bool:
        place = folder / path.replace("\\", "/")
        return bool(self._folder(place.parent).find(place.name))


class _Folder:
    """The names of the files in a folder, by what does not depend on their spelling."""

    def __init__(self, path: Path) -> None:
        names = sorted(each.name for each in path.iterdir() if each.is_file()) if path.is_dir() else []
        self._names = [name for name in names if not is_companion(name)]
        self._by_key: dict[str, list[str]] = {}
        self._composed: dict[str, list[str]] = {}
        for name in self._names:
            self._composed.setdefault(_composed(name), []).append(name)
            for key in {_plain(name), _plain(PurePosixPath(name).stem)}:
                self._by_key.setdefault(key, []).append(name)

    def find(self, name: str) -> str:
        """Return the only file of a name, in any case and form of Unicode, with or without ending, or ""."""
        found = self._composed.get(_composed(name)) or self._by_key.get(_plain(name), [])
        return found[0] if len(found) == 1 else ""

    def same(self, name: str) -> list[str]:
        """Return the files of a name with any ending."""
        return self._by_key.get(_plain(PurePosixPath(name).stem), [])

    def near(self, name: str) -> list[str]:
        """Return the file with the most similar name, if any is similar."""
        return difflib.get_close_matches(name, self._names, n=1, cutoff=0.8)


def _explain_bytes(path: str) -> str:
    """Return why a path begins with `b'`, if it does: a program wrote bytes as text."""
    return "; a program wrote them as bytes, not as text: remove b'...' around them" * bool(
        _BYTES.match(path)
    )


def _subfolders(root: Path) -> Iterator[Path]:
    return (each for each in sorted(root.iterdir()) if each.is_dir())


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return _composed(name).casefold()


def _is_plain(path: str) -> bool:
    """Return whether a relative path has no parts that mean nothing or lead upwards."""
    odd = "\\" in path or "//" in path or "./" in path or path[:1] == "/" or path[-1:] in ("/", ".")
    return bool(path) and not odd


def _member(path: str) -> str:
    """Return the name inside the archive for a path; it never points outside the archive."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return "/".join("_up" if part == ".." else part for part in parts if part != "/")
