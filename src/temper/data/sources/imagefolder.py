"""A folder with a subfolder of images per class, optionally below `train/`, `validation/` and `test/`.

`val/` means the same as `validation/`.

Every regular file in a class folder is used, at any depth, except hidden files and folders. The files are
stored byte for byte in one archive. prepare finds out whether they are images.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from temper.data.images.zip_archive import NAME, write_archive
from temper.data.params import ImageFolder
from temper.data.sources.listing import Listing
from temper.problem import Row

SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def fetch(params: ImageFolder, project: Path, out: Path) -> list[Row]:
    """Write `images.zip`; raise the errors of `list_rows`."""
    listing = list_rows(params, project)
    write_archive(listing.names, listing.find, out / NAME)
    return listing.rows


def list_rows(params: ImageFolder, project: Path) -> Listing:
    """List the images; only the names in the folder are read.

    Raises:
        ValueError: If the folder is missing, has no class folders or only one, or a class folder is empty.
    """
    root = project / params.folder
    if not root.is_dir():
        state = "is a file" if root.exists() else "does not exist"
        raise ValueError(
            f"ingest.folder = {params.folder!r}: {root} {state}; "
            "name a folder with one subfolder of images per class"
        )
    rows = []
    for split, folder in _splits(root):
        for kind, names in _classes(root, folder):
            labels, place = (kind.name,), kind.relative_to(root).as_posix()
            for name in names:
                rows.append(Row(f"{place}/{name}", f"{NAME}/{place}/{name}", labels=labels, split=split))
    classes = sorted({label for row in rows for label in row.labels})
    if len(classes) == 1:
        raise ValueError(
            f"{root} holds one class only, {classes[0]!r}; add a folder with images of another class"
        )
    return Listing(rows, [row.id for row in rows], root.joinpath)


def _splits(root: Path) -> list[tuple[str | None, Path]]:
    """Return the folders that contain class folders, each with the split that it fixes."""
    children = _folders(root)
    # A class may also be called `train`: a folder is a split only if it contains folders and no files.
    split = [child for child in children if child.name in SPLITS and _folders(child) and not _files(child)]
    if not split:
        return [(None, root)]
    for child in children:
        if child not in split:
            reason = (
                "holds no class folders"
                if child.name in SPLITS
                else "is neither train, validation (val) nor test"
            )
            raise ValueError(f"{child} is beside {split[0].name}/, but {reason}; move or remove it")
    named = [SPLITS[child.name] for child in split]
    if len(set(named)) < len(named):
        raise ValueError(f"{root} has both validation/ and val/; remove one of them")
    if "train" not in named:
        raise ValueError(f"{root} has {', '.join(child.name for child in split)}, but no train/; add it")
    return [(SPLITS[child.name], child) for child in split]


def _classes(root: Path, folder: Path) -> Iterator[tuple[Path, list[str]]]:
    """Yield the class folders, each with the names of its images."""
    kinds = _folders(folder)
    if not kinds:
        found = len(_files(folder))
        raise ValueError(
            f"{folder} holds no class folders ({found} loose files); "
            "sort the images into one folder per class, named after the class"
        )
    for kind in kinds:
        names = _images(kind)
        if not names:
            raise ValueError(
                f"the class folder {kind} is empty; put images of {kind.name!r} into it or remove it"
            )
        yield kind, names


def _images(folder: Path) -> list[str]:
    """Return the names of all files at any depth, relative to the folder, sorted by their path parts."""
    found = []
    for place, inner, files in os.walk(folder):
        inner[:] = [name for name in inner if not name.startswith(".")]
        prefix = "" if place == str(folder) else f"{Path(place).relative_to(folder).as_posix()}/"
        found += [prefix + name for name in files if not name.startswith(".")]
    return sorted(
        (name for name in found if os.path.isfile(f"{folder}/{name}")),  # noqa: PTH113
        key=lambda name: name.split("/"),
    )


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
