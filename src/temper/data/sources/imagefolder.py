"""A folder with a subfolder of images per class, optionally below folders that are splits.

Every file in a class folder is used, at any depth, except hidden files and the litter of systems. Links are
followed. The files are stored byte for byte in one archive. prepare finds out whether they are images.
"""

import os
import unicodedata
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from temper.data.images.zip_archive import NAME
from temper.data.remark import Remark, remark_on
from temper.data.source_params import ImageFolder
from temper.data.sources.layout import (
    explain_empty,
    folders_in,
    has_images,
    name_tables,
    open_folder,
    refuse_equal_folders,
    refuse_images_and_truth,
    refuse_masks_beside,
    refuse_parts,
    refuse_repeated,
)
from temper.data.sources.listing import Listing
from temper.data.sources.litter import is_litter
from temper.data.sources.odd_labels import remark_on_labels
from temper.data.sources.split_names import SPELLINGS, split_of
from temper.data.sources.walk import Walk, list_files
from temper.problem import Row


@dataclass
class _Found:
    """What was found below the user's folder."""

    root: Path
    walk: Walk = field(default_factory=Walk)
    """All class folders, with names relative to the root."""
    strays: list[str] = field(default_factory=list)
    """Files beside class folders, and folders without any file beside splits."""
    spellings: list[str] = field(default_factory=list)
    """Names of folders that were taken for splits."""
    nested: list[str] = field(default_factory=list)
    """Class folders that contain several folders and no images of their own."""
    mixed: list[str] = field(default_factory=list)
    """Folders in class folders that also contain images of their own."""

    def name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()

    def remarks(self) -> tuple[Remark, ...]:
        return (
            *remark_on(
                "guessed",
                "folders are splits, not classes; ingest.splits: none makes them classes",
                self.spellings,
            ),
            *remark_on(
                "guessed",
                "folders without images of their own are one class each, with all images below",
                self.nested,
            ),
            *remark_on(
                "guessed",
                "folders lie beside the images of a class, and their images are of that class, too",
                self.mixed,
            ),
            *remark_on("left out", "files or folders beside the class folders", self.strays),
            *self.walk.remarks(),
        )


def list_rows(params: ImageFolder, project: Path) -> Listing:
    """List the images; only the names in the folder are read.

    Raises:
        ValueError: If the folder is missing or contains the project, has no class folders or only one, or
            class folders are empty.
    """
    rule = "name a folder with one subfolder of images per class"
    root = open_folder(params.folder, project, rule)
    found, rows = _Found(root), []
    for split, folder in _splits(found, params.splits == "auto"):
        for kind, names in _classes(found, folder):
            place, label = found.name(kind), unicodedata.normalize("NFC", kind.name)
            for name in names:
                rows.append(Row(f"{place}/{name}", f"{NAME}/{place}/{name}", labels=(label,), split=split))
    if found.walk.unnamed:
        raise ValueError(
            f"the name of '{root / found.walk.unnamed[0]}' contains characters that are not printable text; "
            f"rename the file ({len(found.walk.unnamed)} such names in all)"
        )
    classes = sorted({label for row in rows for label in row.labels})
    if len(classes) == 1:
        raise ValueError(f"{root} holds one class only, {classes[0]!r}; {_explain_one_class(params, root)}")
    odd = remark_on_labels(classes, apart="write a table, where a row may have several")
    odd += remark_on(
        "noticed",
        "classes are called like splits; if they are, sort their images into class folders, or move them",
        [name for name in classes if split_of(name) in ("validation", "test")],
    )
    return Listing(rows, [row.id for row in rows], partial(os.path.join, root), (*found.remarks(), *odd))


def _explain_one_class(params: ImageFolder, root: Path) -> str:
    """Return the way out if a folder has one class: a table names others, or they are one folder deeper."""
    if tables := name_tables(root):
        return f"if {tables} names the labels, set ingest.source: table and ingest.file"
    deeper = [each for each in folders_in(root) if len(folders_in(each)) > 1 and not has_images(each)]
    if len(deeper) == 1 and not any(split_of(each.name) for each in (deeper[0], *folders_in(deeper[0]))):
        inner = ", ".join(each.name for each in folders_in(deeper[0])[:4])
        folder = (Path(params.folder) / deeper[0].name).as_posix()
        return f"if the folders in it ({inner}) are the classes, name it: ingest.folder: {folder}"
    return "add a folder with images of another class"


def _splits(found: _Found, guess: bool) -> list[tuple[str | None, Path]]:
    """Return the folders that contain class folders, each with the split that it fixes."""
    root, children = found.root, folders_in(found.root)
    split = [child for child in children if guess and split_of(child.name) and folders_in(child)]
    if len(split) == 1 and len(children) > 1 and has_images(split[0]):
        raise ValueError(
            f"{split[0]} contains folders and loose images, so it may be a split or a class; move the loose "
            "images into its folders if it is a split, or set ingest.splits: none if it is a class"
        )
    if not split:
        if guess:
            refuse_images_and_truth(root, children)
            refuse_equal_folders(root, children)
            refuse_parts(root, children)
        return [(None, root)]
    refuse_repeated(split)
    for child in children:
        if child not in split:
            if split_of(child.name) is None and not list_files(str(child)).files:
                found.strays.append(found.name(child))
                continue
            reason = "holds no class folders" if split_of(child.name) else f"is none of {SPELLINGS}"
            raise ValueError(
                f"{child} is beside {split[0].name}/, but {reason}; move or remove it, or set "
                "ingest.splits: none if these folders are classes"
            )
    named = [str(split_of(child.name)) for child in split]
    for name in named:
        if named.count(name) > 1:
            same = " and ".join(f"{child.name}/" for child in split if split_of(child.name) == name)
            raise ValueError(
                f"{root} has both {same}, which mean the same split; remove or merge one of them"
            )
    if "train" not in named:
        raise ValueError(f"{root} has {', '.join(child.name for child in split)}, but no train/; add it")
    found.spellings += [child.name for child in split if child.name not in ("train", "validation", "test")]
    found.strays += [found.name(path) for path in _files(root)]
    _note_what_is_left_out(found, root)
    return list(zip(named, split, strict=True))


def _classes(found: _Found, folder: Path) -> list[tuple[Path, list[str]]]:
    """Return the class folders, each with the names of its images."""
    kinds, strays = folders_in(folder), _files(folder)
    if folder != found.root:
        refuse_images_and_truth(folder, kinds)
    if not kinds:
        raise ValueError(
            f"{folder} holds no class folders ({len(strays)} loose files); "
            "sort the images into one folder per class, named after the class"
        )
    found.strays += [found.name(path) for path in strays]
    classes, empty = [], dict[Path, Walk]()
    _note_what_is_left_out(found, folder)
    _refuse_one_folder_twice(kinds)
    for kind in kinds:
        walk = list_files(str(kind))
        found.walk.add(walk, found.name(kind))
        if walk.files:
            classes.append((kind, walk.files))
            inner = sorted({name.partition("/")[0] for name in walk.files if "/" in name})
            _refuse_class_in_class(kind, inner, kinds)
            if all("/" in name for name in walk.files):
                found.nested.append(found.name(kind))
            else:
                found.mixed += [f"{found.name(kind)}/{name}" for name in inner]
        else:
            empty[kind] = walk
        refuse_masks_beside(kind, walk.files)
    if empty:
        raise ValueError(explain_empty(empty))
    return classes


def _refuse_class_in_class(kind: Path, inner: list[str], kinds: list[Path]) -> None:
    """Refuse a folder in a class folder that is called like another class.

    Raises:
        ValueError: Names both.
    """
    others = {each.name.casefold() for each in kinds if each != kind}
    if both := [name for name in inner if name.casefold() in others]:
        raise ValueError(
            f"the class folder {kind} contains a folder {both[0]!r}, which is called like another class; "
            f"move its images to {kind.parent / both[0]}, or rename it"
        )


def _refuse_one_folder_twice(kinds: list[Path]) -> None:
    """Refuse two class folders that are the same folder, through a link."""
    seen: dict[Path, Path] = {}
    for kind in kinds:
        other = seen.setdefault(kind.resolve(), kind)
        if other != kind:
            raise ValueError(
                f"the class folders {other} and {kind} are the same folder, through a link; remove the link"
            )


def _note_what_is_left_out(found: _Found, folder: Path) -> None:
    """Note the litter and the links without a target that lie directly in a folder of folders."""
    for path in sorted(folder.iterdir()):
        if is_litter(path.name, folder=path.is_dir()):
            found.walk.litter.append(found.name(path))
        elif path.is_symlink() and not path.exists():
            found.walk.broken.append(found.name(path))


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_file() and not is_litter(path.name))
