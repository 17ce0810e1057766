"""Takes new images from the inbox, `inbox/labelled/CLASS/FILE`, into the data folder.

Only what prepare can read is taken. An image gets a name that contains its digest and appears under that name
by one rename, so an interruption at any time neither loses an image nor takes it twice. What cannot be taken
is moved to `inbox/aside`, and `inbox/aside/reasons.csv` says why:

- an image that the dataset contains already, byte for byte, in any split;
- an image that the dataset contains under another class: a person must decide which class is right;
- a file that is no image, is damaged or is too large.
"""

import csv
import errno
import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from temper.artifacts import digest_file, flush
from temper.config import Params
from temper.ops.project import Project
from temper.stages import incoming

_MOST_BYTES = 160
"""Bytes that are left of the name of a file that is taken in or put aside."""
LABELLED, UNLABELLED, ASIDE = "labelled", "unlabelled", "aside"
REASONS = "reasons.csv"
_SETTLED_S = 2.0
"""Seconds since the last change of a file within which it may still be being copied."""
_MIN_IMAGES = 3
"""Minimum number of images of a new class, since each split needs one."""
_NAMED = 3
"""Number of names that a message lists."""


@dataclass
class Taken:
    """The result of importing the inbox."""

    moved: Counter[str] = field(default_factory=Counter)
    """Number of imported images by class."""
    renamed: dict[str, str] = field(default_factory=dict)
    """Folder of the inbox -> class of the dataset whose name differs only in spelling."""
    known: int = 0
    """Number of images put aside because the dataset contains them already."""
    disputed: list[str] = field(default_factory=list)
    """Images put aside because the dataset contains them under another class, as `image is other image`."""
    unusable: list[str] = field(default_factory=list)
    """Files put aside because prepare could not read them, as `file: reason`."""
    fresh: int = 0
    """Number of files left in the inbox because they may still be being copied."""
    unsorted: list[str] = field(default_factory=list)
    """Files and folders left in the inbox because they are in no class folder, or in one within
    another."""
    litter: list[str] = field(default_factory=list)
    """Files left in the inbox that are hidden, unfinished or the system's, and links without a target."""
    strange: Counter[str] = field(default_factory=Counter)
    """Number of images left in the inbox, by class: the dataset has no such class."""
    why_strange: str = ""
    """What a new class needs."""

    def words(self) -> str:
        """Return the result as one line."""
        parts = [f"{count} {name}" for name, count in sorted(self.moved.items())]
        messages = [
            f"imported {self.moved.total()} new images from the inbox ({', '.join(parts)})"
            if parts
            else "the inbox contains no new images"
        ]
        messages += [f"took {old} for the class {new}" for old, new in sorted(self.renamed.items())]
        if self.known:
            messages.append(f"moved {self.known} to aside/ in the inbox: the dataset already contains them")
        if self.disputed:
            messages.append(
                f"moved {len(self.disputed)} to aside/ in the inbox that the dataset contains under another "
                f"class: {_list(self.disputed)}"
            )
        if self.unusable:
            messages.append(
                f"moved {len(self.unusable)} to aside/ in the inbox that cannot be read: "
                f"{_list(self.unusable)}"
            )
        if self.fresh:
            messages.append(f"left {self.fresh} that changed within the last {_SETTLED_S:g} s")
        if self.unsorted:
            messages.append(
                f"left {len(self.unsorted)} files or folders that are in no class folder, or in two: "
                f"{_list(self.unsorted)}; move them into {LABELLED}/CLASS/"
            )
        if self.litter:
            messages.append(
                f"left {len(self.litter)} hidden, unfinished, system or other files: {_list(self.litter)}"
            )
        if self.strange:
            names = ", ".join(f"{count} {name}" for name, count in sorted(self.strange.items()))
            messages.append(f"left {names}: the dataset has no such class. {self.why_strange}")
        return "; ".join(messages)


def import_new(project: Project, params: Params) -> Taken:
    """Move the images in the inbox into the data folder; call it while holding the project's lock.

    Raises:
        ValueError: If there are images and the source is not a folder of images that can take them, or if the
            inbox is inside the data folder.
    """
    inbox, taken = project.folder / params.retrain.inbox, Taken()
    labelled = inbox / LABELLED
    taken.unsorted = _beside(inbox)
    found = incoming.list_files(str(labelled)) if labelled.is_dir() else None
    if found is None:
        return taken
    taken.litter = [*found.litter, *found.companions, *found.broken, *found.loops]
    taken.litter += [*found.special, *found.unnamed]
    taken.unsorted += [f"{LABELLED}/{name}" for name in found.files if "/" not in name]
    names = [name for name in found.files if "/" in name]
    if not names:
        return taken
    dataset = _look_at(_check_folders(project, params, inbox, len(names)))
    counts = Counter(name.split("/")[0] for name in names)
    taken.why_strange = _new_class_needs(params, dataset)
    for name in names:
        path, given = labelled / name, name.split("/")[0]
        kind = incoming.find_class(given, dataset.classes)
        may_be_new = params.retrain.new_classes == "allow" and not dataset.has_splits
        if kind is None and not (may_be_new and counts[given] >= _MIN_IMAGES):
            taken.strange[given] += 1
            continue
        if incoming.is_torn(name, dataset.classes):
            taken.unsorted.append(f"{LABELLED}/{name}")
            continue
        if abs(time.time() - path.stat().st_mtime) < _SETTLED_S:
            taken.fresh += 1
            continue
        if kind is not None and kind != given:
            taken.renamed[given] = kind
        _take(path, name, kind or given, dataset, inbox / ASIDE, params, taken)
    return taken


@dataclass(frozen=True)
class _Dataset:
    """The data folder."""

    data: Path
    target: Path
    """Folder of the class folders that take new images."""
    has_splits: bool
    classes: list[str]
    sizes: dict[int, list[Path]]
    """All files by their size. Only files of the same size can be equal, and hashing a million would take
    minutes."""

    def class_of(self, path: Path) -> str:
        """Return the class of a file; empty for a file that lies beside the class folders."""
        folders, depth = path.relative_to(self.data).parent.parts, int(self.has_splits)
        return folders[depth] if len(folders) > depth else ""


def _look_at(data: Path) -> _Dataset:
    children = [path for path in data.iterdir() if path.is_dir()] if data.is_dir() else []
    split = [
        path
        for path in children
        if incoming.split_of(path.name) == "train" and any(each.is_dir() for each in path.iterdir())
    ]
    target = split[0] if split else data
    sizes: dict[int, list[Path]] = {}
    for name in incoming.list_files(str(data)).files if children else ():
        sizes.setdefault((data / name).stat().st_size, []).append(data / name)
    classes = [path.name for path in target.iterdir() if path.is_dir()] if target.is_dir() else []
    return _Dataset(data, target, bool(split), classes, sizes)


def _beside(inbox: Path) -> list[str]:
    """Return the files and folders of the inbox that nothing reads."""
    known = (LABELLED, UNLABELLED, ASIDE)
    children = sorted(inbox.iterdir()) if inbox.is_dir() else []
    return [
        f"{each.name}/" if each.is_dir() else each.name
        for each in children
        if each.name not in known and not incoming.is_litter(each.name, folder=each.is_dir())
    ]


def _check_folders(project: Project, params: Params, inbox: Path, count: int) -> Path:
    """Return the data folder that takes the images of the inbox."""
    folder = getattr(params.ingest, "folder", None)
    if params.ingest.source != "imagefolder" or folder is None:
        raise ValueError(
            f"ingest.source = {params.ingest.source}: only a folder of images (imagefolder) can take the "
            f"{count} files in {inbox / LABELLED}; empty the inbox or change the source"
        )
    data = project.folder / folder
    if inbox.resolve().is_relative_to(data.resolve()):
        raise ValueError(
            f"retrain.inbox = {params.retrain.inbox!r}: the inbox must not be inside the data folder "
            f"{folder!r}; name another folder"
        )
    return data


def _new_class_needs(params: Params, dataset: _Dataset) -> str:
    if dataset.has_splits:
        return "The data folder has one folder per split: add the new class to each of them yourself"
    if params.retrain.new_classes != "allow":
        return (
            "Correct the folder's name, or set retrain.new_classes: allow, which makes them new classes; "
            f"each needs at least {_MIN_IMAGES} images"
        )
    return f"A new class needs at least {_MIN_IMAGES} images"


def _take(
    path: Path, name: str, kind: str, dataset: _Dataset, aside: Path, params: Params, taken: Taken
) -> None:
    """Take one image into its class folder, or put it aside."""
    if (reason := incoming.why_unusable(path, params.prepare)) is not None:
        taken.unusable.append(f"{name}: {reason}")
        _put_aside(path, name, aside, reason)
        return
    digest, size = digest_file(path), path.stat().st_size
    alike = [each for each in dataset.sizes.get(size, []) if digest_file(each) == digest]
    if not alike:
        place = dataset.target / kind / f"{_shorten(path.stem)}-{digest[:12]}{path.suffix.lower()}"
        _move(path, place)
        dataset.sizes.setdefault(size, []).append(place)
        taken.moved[kind] += 1
        return
    other = next((each for each in alike if dataset.class_of(each) != kind), None)
    if other is None:
        taken.known += 1
        _put_aside(path, name, aside, f"the dataset contains it already: {alike[0]}")
    else:
        taken.disputed.append(f"{name} is {other.relative_to(dataset.data)}")
        _put_aside(path, name, aside, f"the dataset contains it under another class: {other}")


def _shorten(stem: str) -> str:
    """Return the beginning of a name that leaves room for more: a name may have 255 bytes, not letters."""
    return stem.encode("utf-8", "surrogateescape")[:_MOST_BYTES].decode("utf-8", "ignore")


def _put_aside(path: Path, name: str, aside: Path, reason: str) -> None:
    place = aside / Path(name).parent / f"{digest_file(path)[:12]}-{_shorten(path.stem)}{path.suffix}"
    new = not (aside / REASONS).is_file()
    _move(path, place)
    with (aside / REASONS).open("a", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        if new:
            writer.writerow(["file", "reason", "time"])
        writer.writerow(
            [place.relative_to(aside), reason, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())]
        )


def _move(path: Path, place: Path) -> None:
    """Move a file, also to another disk. What a link leads to is copied, and the link is removed.

    The file appears in its place completely or not at all, and the original is removed only then.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_symlink():
        try:
            path.replace(place)
            return
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    shutil.copyfile(path, temporary)
    flush(temporary)
    temporary.replace(place)
    flush(place.parent)
    path.unlink()


def unlabelled(project: Project, params: Params) -> list[Path]:
    """Return the recent images without labels, the newest last."""
    folder = project.folder / params.retrain.inbox / UNLABELLED
    found = [path for path in _files(folder) if not incoming.is_litter(path.name)]
    return sorted(found, key=lambda path: (path.stat().st_mtime, path.name))


def _files(folder: Path) -> Iterator[Path]:
    if folder.is_dir():
        yield from (path for path in folder.iterdir() if path.is_file())


def _list(names: list[str]) -> str:
    return ", ".join(names[:_NAMED]) + (", ..." if len(names) > _NAMED else "")
