"""What a source makes of the new files in the inbox.

A source decides and changes nothing: which files it takes and where they go, which are put aside and why, and
which tables then have other rows. The inbox (`temper.ops.retraining.inbox`) carries it out.
"""

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from temper.artifacts import digest_file
from temper.data.sources.walk import Walk
from temper.problem import Problem, Row

_MOST_BYTES = 160
"""Bytes that are left of the name of a file that is taken in or put aside."""
MIN_IMAGES = 3
"""Minimum number of images of a new class, since each split needs one."""
Fate = Literal[
    "new", "before", "known", "disputed", "unusable", "fresh", "unsorted", "litter", "strange", "refused"
]
"""What becomes of new files:

- `new`: the dataset takes them;
- `before`: an interrupted run took them already, and they only leave the inbox;
- `known`, `disputed`, `unusable`: they are put aside, since the dataset contains the image, contains it with
  another truth, or since prepare could not read it;
- `fresh`, `unsorted`, `litter`, `strange`, `refused`: they stay, since they may still be being copied, belong
  to nothing, are no images, are of a class that the dataset does not have, or since a table or an annotation
  has an error.
"""


Draw = Callable[[str], bytes]
"""Returns a mask by its name in the archive of drawn masks."""


@dataclass(frozen=True)
class Offer:
    """What is in the inbox, and the rules by which a source decides."""

    inbox: Path
    labelled: Path
    """Folder of the new files. Names of files are relative to it."""
    aside: Path
    """Folder of what cannot be taken."""
    found: Walk
    is_fresh: Callable[[Path], bool]
    """Returns whether a file may still be being copied."""
    problem: Problem
    new_classes: bool
    """Whether the dataset may get new classes."""
    find_class: Callable[[str, Iterable[str]], str | None]
    """Returns which of the known classes a name means: the same, or the only one that differs in spelling."""
    find_unusable: Callable[[Sequence[Row], Problem | None, Draw | None], Mapping[int, str]]
    """Returns which rows prepare could not use, by number, and why. The problem must be bound to the data; it
    looks at the truth if it is given. Paths of rows are those in an archive of `labelled`; masks that lie in
    no file are drawn."""

    def require_apart(self, project: Path, folder: str) -> None:
        """Check that the inbox is not inside the data folder, whose files would be part of the dataset.

        Raises:
            ValueError: Names both.
        """
        if self.inbox.resolve().is_relative_to((project / folder).resolve()):
            raise ValueError(
                f"retrain.inbox = {str(self.inbox.relative_to(project))!r}: the inbox must not be inside the "
                f"data folder {folder!r}; name another folder"
            )


@dataclass(frozen=True)
class Arrival:
    """What becomes of a new image and of the files that belong to it."""

    name: str
    """Name of the image, or of what else is in the inbox."""
    fate: Fate
    kind: str = ""
    """What it is counted as: its class, the table that names it, or what comes with it."""
    reason: str = ""
    """Why it is put aside or refused, or which file of the dataset it disputes."""
    files: tuple[str, ...] = ()
    """Names of the files that leave the inbox: the image first, then its mask or annotation, if any."""
    places: tuple[Path, ...] = ()
    """Where these files go; empty if they only leave."""


@dataclass(frozen=True)
class Write:
    """A table or file of annotations that has other content afterwards."""

    path: Path
    content: bytes | None
    """The new content; None if the file is to be removed."""
    digest: str | None = None
    """Digest of the content from which the new one was made; None if there was no such file."""


@dataclass
class Intake:
    """What a source makes of an offer."""

    truth: str
    """What else a dataset may say of an equal image: another `class`."""
    unsorted: tuple[str, str]
    """What is wrong with files that belong to nothing, and the way out."""
    new_class: str = ""
    """What a new class needs."""
    arrivals: list[Arrival] = field(default_factory=list)
    renamed: dict[str, str] = field(default_factory=dict)
    """Class in the inbox -> class of the dataset whose name differs only in spelling."""
    writes_before: list[Write] = field(default_factory=list)
    """Files to write before any file is in its place, in this order."""
    writes: list[Write] = field(default_factory=list)
    """Files to write after all files are in their places and before they leave the inbox, in this order."""
    shared: set[str] = field(default_factory=set)
    """Names of files that stay in the inbox, too, since a row that stays needs them."""
    notes: list[str] = field(default_factory=list)
    """What else was done."""
    together: bool = False
    """Whether files belong together, so that all are in their places before any of them leaves the inbox."""

    def leave(self, fate: Fate, names: Iterable[str]) -> None:
        """Leave files where they are."""
        self.arrivals += [Arrival(name, fate) for name in names]


def change(path: Path, raw: bytes, content: bytes, name: str) -> Write:
    """Return the change of a file of the dataset.

    Args:
        path: The file.
        raw: Its content from which the new one was made.
        content: The new content.
        name: What the file is called in messages.

    Raises:
        ValueError: If it is read-only.
    """
    if not path.stat().st_mode & 0o222:
        raise ValueError(
            f"{name} is read-only, so it cannot take what the new examples need; make it writable: "
            f"`dvc unprotect {name}` if DVC tracks it, otherwise `chmod u+w {name}`"
        )
    return Write(path.resolve(), content, hashlib.sha256(raw).hexdigest())


class Contents:
    """The files of a dataset, found by their content.

    Only files of the same size can be equal, and hashing a million would take minutes.

    Args:
        paths: The files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        self._sizes: dict[int, list[Path]] = {}
        self._digests: dict[Path, str] = {}
        self._inodes: set[tuple[int, int]] = set()
        for path in paths:
            found = path.stat()
            self._sizes.setdefault(found.st_size, []).append(path)
            self._inodes.add((found.st_dev, found.st_ino))

    def add(self, place: Path, copied: Path) -> None:
        """Add a file that will be in its place: a copy of another one."""
        self._digests[place] = self.digest(copied)
        self._sizes.setdefault(copied.stat().st_size, []).append(place)

    def alike(self, path: Path) -> list[Path]:
        """Return the files of the dataset that are equal to a file, byte for byte."""
        others = self._sizes.get(path.stat().st_size, [])
        return [each for each in others if self.digest(each) == self.digest(path)]

    def holds(self, path: Path) -> bool:
        """Return whether a file of the dataset is this very file under another name, and no link leads to it.

        An interrupted run leaves such files in the inbox.
        """
        found = path.lstat()
        return (found.st_dev, found.st_ino) in self._inodes

    def digest(self, path: Path) -> str:
        """Return the digest of a file; it is read once."""
        if path not in self._digests:
            self._digests[path] = digest_file(path)
        return self._digests[path]


def place_in(folder: Path, path: Path, contents: Contents, digest: str | None = None) -> Path:
    """Return the place of a file in a folder of the dataset.

    Args:
        folder: The folder.
        path: The file.
        contents: The files of the dataset.
        digest: Digest that its name contains, so that no other file has it, unless somebody edited that one;
            None for the file's own.
    """
    digest = digest or contents.digest(path)
    stem, ending = _shorten(path.stem).replace("\\", "_"), path.suffix.lower().strip()
    place = folder / f"{stem}-{digest[:12]}{ending}"
    edited = place.is_file() and contents.digest(place) != contents.digest(path)
    return folder / f"{stem}-{digest}{ending}" if edited else place


def place_aside(offer: Offer, name: str, digest: str) -> Path:
    """Return the place of a file that is put aside."""
    path = Path(name)
    return offer.aside / path.parent / f"{digest[:12]}-{_shorten(path.stem)}{path.suffix}"


def _shorten(stem: str) -> str:
    """Return the beginning of a name that leaves room for more: a name may have 255 bytes, not letters."""
    return stem.encode("utf-8", "surrogateescape")[:_MOST_BYTES].decode("utf-8", "ignore")
