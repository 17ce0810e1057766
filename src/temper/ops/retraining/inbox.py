"""New images dropped into the inbox become part of the data folder: `inbox/labelled/CLASS/FILE`.

They are moved, one rename each, under a name that holds their content, so that nothing is lost or taken twice whenever this is cut off.
An image that lies in the data already, byte for byte, is put aside; so is one whose bytes are known under another class:
somebody must say which is right. Nothing is decoded here: prepare refuses what is no image, and says so.
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
"""A file that changed within this time may still be being copied."""
_LEAST = 3
"""Images of a new class: each split needs one."""
_SPLITS = ("train", "validation", "test")


@dataclass
class Taken:
    """What became of the inbox."""

    moved: Counter[str] = field(default_factory=Counter)
    """New images by class."""
    known: int = 0
    """Put aside: the data hold them already."""
    disputed: list[str] = field(default_factory=list)
    """Put aside: the data hold them under another class."""
    fresh: int = 0
    """Left for the next time: they may still be being copied."""
    strange: Counter[str] = field(default_factory=Counter)
    """Left, by class: the data know no such class, and too few came to make one."""

    def words(self) -> str:
        """In a line."""
        parts = [f"{count} {name}" for name, count in sorted(self.moved.items())]
        said = [
            f"took {self.moved.total()} new images from the inbox ({', '.join(parts)})"
            if parts
            else "the inbox holds no new images"
        ]
        if self.known:
            said.append(f"{self.known} known ones put aside")
        if self.disputed:
            said.append(
                f"{len(self.disputed)} put aside whose bytes are known under another class: {', '.join(self.disputed[:3])}"
            )
        if self.fresh:
            said.append(f"{self.fresh} left, changed a moment ago")
        if self.strange:
            names = ", ".join(f"{count} {name}" for name, count in sorted(self.strange.items()))
            said.append(
                f"left {names}: no class of the data, and a new one needs {_LEAST} images, or, where the data come in splits, to be laid "
                "into each of them by hand"
            )
        return "; ".join(said)


def import_new(project: Project, params: Params) -> Taken:
    """Move what lies in the inbox into the data folder; call it while holding the project.

    Raises:
        ValueError: If there is something, and the source is no folder of images it could go to.
    """
    inbox, taken = project.folder / params.retrain.inbox, Taken()
    found = list(_files(inbox / LABELLED))
    if not found:
        return taken
    folder = getattr(params.ingest, "folder", None)
    if params.ingest.source != "imagefolder" or folder is None:
        raise ValueError(
            f"{inbox / LABELLED} holds {len(found)} files, but ingest.source is {params.ingest.source}: only a folder of images "
            "(imagefolder) can take them in; empty the inbox, or change the source"
        )
    target = project.folder / folder
    if inbox.resolve().is_relative_to(target.resolve()):
        raise ValueError(
            f"retrain.inbox = {params.retrain.inbox!r} lies in the data folder {folder!r}; name another"
        )
    split = (target / _SPLITS[0]).is_dir()
    target = target / _SPLITS[0] if split else target
    now, sizes, counts = time.time(), _by_size(target), Counter(path.parent.name for path in found)
    for path in found:
        if not (target / path.parent.name).is_dir() and (split or counts[path.parent.name] < _LEAST):
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
    """Recent images without labels, the newest last."""
    found = list(_files(project.folder / params.retrain.inbox / UNLABELLED, deep=False))
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def _files(folder: Path, *, deep: bool = True) -> Iterator[Path]:
    """Files directly below the folders of a folder (of the folder itself); hidden ones are left out, they are unfinished."""
    if not folder.is_dir():
        return
    for path in sorted(folder.glob("*/*" if deep else "*")):
        if path.is_file() and not path.name.startswith("."):
            yield path


def _by_size(folder: Path) -> dict[int, list[Path]]:
    """Files by their size: only those of one size can be alike, and hashing a million files would take minutes."""
    found: dict[int, list[Path]] = {}
    for path in folder.rglob("*"):
        if path.is_file():
            found.setdefault(path.stat().st_size, []).append(path)
    return found
