"""Moves new images from the inbox, `inbox/labelled/CLASS/FILE`, into the data folder.

Each image is moved by one rename to a name that contains its digest, so an interruption at any time neither
loses an image nor imports it twice. An image that the dataset already contains, byte for byte, is moved to
`inbox/aside`. An image that the dataset contains under another class is moved there too, and a user must
decide which class is right. Nothing is decoded here: prepare refuses and reports files that are not images.
"""

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from temper.artifacts import digest_file
from temper.config import Params
from temper.ops.project import Project

LABELLED, UNLABELLED, ASIDE = "labelled", "unlabelled", "aside"
_SETTLED_S = 2.0
"""Seconds since the last change of a file within which it may still be being copied."""
_MIN_IMAGES = 3
"""Minimum number of images of a new class, since each split needs one."""
_SPLITS = ("train", "validation", "test")


@dataclass
class Taken:
    """The result of importing the inbox."""

    moved: Counter[str] = field(default_factory=Counter)
    """Number of imported images by class."""
    known: int = 0
    """Number of images moved aside because the dataset already contains them."""
    disputed: list[str] = field(default_factory=list)
    """Images moved aside because the dataset contains them under another class, as `image is other image`."""
    fresh: int = 0
    """Number of files left in the inbox because they may still be being copied."""
    strange: Counter[str] = field(default_factory=Counter)
    """Number of images left in the inbox, by class: the class is new and has too few images."""

    def words(self) -> str:
        """Return the result as one line."""
        parts = [f"{count} {name}" for name, count in sorted(self.moved.items())]
        messages = [
            f"imported {self.moved.total()} new images from the inbox ({', '.join(parts)})"
            if parts
            else "the inbox contains no new images"
        ]
        if self.known:
            messages.append(f"moved {self.known} to aside/ in the inbox: the dataset already contains them")
        if self.disputed:
            messages.append(
                f"moved {len(self.disputed)} to aside/ in the inbox that the dataset contains under another "
                f"class: {', '.join(self.disputed[:3])}"
            )
        if self.fresh:
            messages.append(f"left {self.fresh} that changed within the last {_SETTLED_S:g} s")
        if self.strange:
            names = ", ".join(f"{count} {name}" for name, count in sorted(self.strange.items()))
            messages.append(
                f"left {names}: the dataset has no such class. A new class needs at least {_MIN_IMAGES} "
                "images; if the data folder has one folder per split, add the new class to each of them "
                "yourself"
            )
        return "; ".join(messages)


def import_new(project: Project, params: Params) -> Taken:
    """Move the images in the inbox into the data folder; call it while holding the project's lock.

    Raises:
        ValueError: If there are images and the source is not a folder of images that can take them, or if the
            inbox is inside the data folder.
    """
    inbox, taken = project.folder / params.retrain.inbox, Taken()
    found = list(_files(inbox / LABELLED))
    if not found:
        return taken
    folder = getattr(params.ingest, "folder", None)
    if params.ingest.source != "imagefolder" or folder is None:
        raise ValueError(
            f"ingest.source = {params.ingest.source}: only a folder of images (imagefolder) can take the "
            f"{len(found)} files in {inbox / LABELLED}; empty the inbox or change the source"
        )
    target = project.folder / folder
    if inbox.resolve().is_relative_to(target.resolve()):
        raise ValueError(
            f"retrain.inbox = {params.retrain.inbox!r}: the inbox must not be inside the data folder "
            f"{folder!r}; name another folder"
        )
    split = (target / _SPLITS[0]).is_dir()
    target = target / _SPLITS[0] if split else target
    now, sizes, counts = time.time(), _by_size(target), Counter(path.parent.name for path in found)
    for path in found:
        if not (target / path.parent.name).is_dir() and (split or counts[path.parent.name] < _MIN_IMAGES):
            taken.strange[path.parent.name] += 1
            continue
        if abs(now - path.stat().st_mtime) < _SETTLED_S:
            taken.fresh += 1
            continue
        name, digest = path.parent.name, digest_file(path)
        alike = [each for each in sizes.get(path.stat().st_size, []) if digest_file(each) == digest]
        if not alike:
            place = target / name / f"{path.stem[:80]}-{digest[:12]}{path.suffix.lower()}"
            place.parent.mkdir(parents=True, exist_ok=True)
            sizes.setdefault(path.stat().st_size, []).append(place)
            path.replace(place)
            taken.moved[name] += 1
            continue
        other = next((each for each in alike if each.parent.name != name), None)
        if other is None:
            taken.known += 1
        else:
            taken.disputed.append(f"{name}/{path.name} is {other.relative_to(target)}")
        place = inbox / ASIDE / name / f"{digest[:12]}-{path.name[-80:]}"
        place.parent.mkdir(parents=True, exist_ok=True)
        path.replace(place)
    return taken


def unlabelled(project: Project, params: Params) -> list[Path]:
    """Return the recent images without labels, the newest last."""
    found = list(_files(project.folder / params.retrain.inbox / UNLABELLED, deep=False))
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def _files(folder: Path, *, deep: bool = True) -> Iterator[Path]:
    """Yield the files of a folder's subfolders or, if not `deep`, the files of the folder itself.

    Hidden files are left out, since they are unfinished.
    """
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*/*" if deep else "*")):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _by_size(folder: Path) -> dict[int, list[Path]]:
    """Return the files below a folder by their size.

    Only files of the same size can be equal, and hashing a million files would take minutes.
    """
    found: dict[int, list[Path]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found.setdefault(path.stat().st_size, []).append(path)
    return found
