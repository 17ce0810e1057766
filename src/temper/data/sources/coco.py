"""A folder of images with annotations in COCO's JSON: one file, or one for each split.

Boxes are left, top, width and height in pixels from 0. Images are found by the path in `file_name`, relative
to the file of annotations or to the usual folders, or by their name if only one image has it. Captions are
not read: they are no truth about classes or places.
"""

import os
import posixpath
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from temper.data.remark import Remark, remark_on
from temper.data.source_params import Coco, Truth
from temper.data.sources.annotated import AnnotatedImages
from temper.data.sources.coco_file import CocoFile, explain_shape, read_coco
from temper.data.sources.coco_images import CocoImages, ids_by_place
from temper.data.sources.coco_objects import CocoObjects
from temper.data.sources.image_names import ImageNames
from temper.data.sources.listing import Listing
from temper.data.sources.litter import is_image
from temper.data.sources.odd_labels import remark_on_labels
from temper.data.sources.split_names import SPELLINGS, split_in, split_of
from temper.data.sources.walk import list_files

_POINTS, _OBJECTS = "person_keypoints", "instances"
"""How COCO calls the files of the same images with points, and without."""


@dataclass
class _Found:
    """What was decided about files and images."""

    other_files: list[str] = field(default_factory=list)
    captions: list[str] = field(default_factory=list)
    splits: list[str] = field(default_factory=list)
    same_file: list[str] = field(default_factory=list)

    def remarks(self) -> list[Remark]:
        return [
            *remark_on("guessed", "files of annotations are read; ingest.annotations chooses", self.splits),
            *remark_on(
                "left out",
                "JSON files are not in COCO's form, or have other annotations of the same images",
                self.other_files,
            ),
            *remark_on("left out", "JSON files hold captions", self.captions),
            *remark_on("converted", "images are listed twice, and have the objects of both", self.same_file),
        ]


@dataclass(frozen=True)
class CocoFolder:
    """A folder that was read."""

    listing: Listing
    files: Mapping[str, str]
    """Image -> file that lists it, as a path from the folder."""
    written: Mapping[str, str]
    """Image -> its name in that file."""
    points: Sequence[str]
    """Names of the points."""
    numbers: Mapping[str, int]
    """Label -> its number in drawn masks."""


def list_rows(params: Coco, project: Path) -> Listing:
    """List the images with their objects; no image is decoded.

    Raises:
        ValueError: As for `read_folder`.
    """
    return read_folder(params, project).listing


def read_folder(params: Coco, project: Path) -> CocoFolder:
    """Read the annotations of a folder; no image is decoded.

    Raises:
        ValueError: If the folder or the annotations are missing, cannot be read, or contradict each other.
    """
    root = project / params.folder
    if not root.is_dir():
        raise ValueError(
            f"ingest.folder = {params.folder!r}: {root} does not exist; name the folder that holds the "
            "images and the annotations"
        )
    walk, found = list_files(str(root)), _Found()
    files = _choose(params, root, walk.companions, found)
    images = [name for name in walk.files if is_image(name)]
    names, objects = ImageNames(images), CocoObjects(params.truth)
    listed = CocoImages(names)
    seen = AnnotatedImages(params.truth, params.boxes_in, root.joinpath)
    for file, split in files:
        by_id = listed.find(file)
        things = objects.read(file, {number: each.place or each.written for number, each in by_id.items()})
        for place, ids in ids_by_place(by_id).items():
            found.same_file += [place] * (len(ids) > 1)
            seen.add(place, [thing for each in ids for thing in things[each]], by_id[ids[0]].size, split)
    objects.check()
    rows = seen.rows(order=objects.categories.order, points=objects.categories.points)
    if not rows:
        raise ValueError(_explain_nothing(root, params, files, names))
    remarks = (
        *found.remarks(),
        *listed.remarks(),
        *names.remarks(),
        *remark_on(
            "left out", "images have no entry in the annotations", sorted({*images} - {*listed.files})
        ),
        *objects.remarks(),
        *seen.remarks(crowds="boxes are marked as crowds"),
        *remark_on_labels(objects.used, apart="rename their categories in the annotations"),
    )
    listing = seen.listing(rows, root, remarks, [root / file.name for file, _ in files])
    return CocoFolder(listing, listed.files, listed.written, objects.categories.points, seen.numbers)


def _choose(
    params: Coco, root: Path, companions: list[str], found: _Found
) -> list[tuple[CocoFile, str | None]]:
    """Return the files of annotations, each with its split.

    Raises:
        ValueError: If there are none, or one that is named cannot be used.
    """
    if params.annotations is not None:
        named = {None: params.annotations} if isinstance(params.annotations, str) else params.annotations
        return [_read_named(root, key, name) for key, name in named.items()]
    paths = [name for name in companions if name.lower().endswith(".json")]
    read = {name: read_coco(root / name, name) for name in paths}
    files = {name: file for name, file in read.items() if file is not None}
    found.captions += [name for name, file in files.items() if file.has_captions]
    files = {name: file for name, file in files.items() if file.has_objects}
    if not files and found.captions:
        raise ValueError(_explain_captions(found.captions[0]))
    if not files:
        listed = f" (but {', '.join(paths[:3])}, in another form)" if paths else ""
        raise ValueError(
            f"{root} has no annotations in COCO's form{listed}: a .json file with images, annotations and "
            "categories; set ingest.annotations to it"
        )
    files = leave_twins(files, params.truth)
    found.other_files += [name for name in paths if name not in files and name not in found.captions]
    chosen = [(file, split_in(posixpath.splitext(name)[0])) for name, file in files.items()]
    found.splits += [f"{file.name}{f' ({split})' if split else ''}" for file, split in chosen]
    return chosen


def leave_twins(files: Mapping[str, CocoFile], truth: Truth) -> dict[str, CocoFile]:
    """Return the files that are read; COCO itself has two of the same images, with points and without."""
    if truth == "points":
        return {name: file for name, file in files.items() if file.has_points} or dict(files)
    twins = {name for name in files if name.replace(_POINTS, _OBJECTS) in {*files} - {name}}
    return {name: file for name, file in files.items() if name not in twins}


def _read_named(root: Path, key: str | None, name: str) -> tuple[CocoFile, str | None]:
    """Read a file that params.yaml names.

    Raises:
        ValueError: If it is missing or of another form, or its key is no split.
    """
    if key is not None and split_of(key) is None:
        raise ValueError(f"ingest.annotations names the split {key!r}; write {SPELLINGS}")
    path = root / name
    if not path.is_file():
        raise ValueError(
            f"ingest.annotations: {path} does not exist; name a .json file, relative to ingest.folder"
        )
    file = read_coco(path, os.path.relpath(path, root).replace(os.sep, "/"))
    if file is None:
        raise ValueError(explain_shape(str(path)))
    if not file.has_objects:
        raise ValueError(_explain_captions(name) if file.has_captions else explain_shape(str(path)))
    return file, split_of(key) if key is not None else split_in(posixpath.splitext(file.name)[0])


def _explain_captions(name: str) -> str:
    return (
        f"{name} holds captions, and no kind of problem learns texts; set ingest.annotations to a file of "
        "objects or, to give texts beside labels as an input, write a table and set ingest.source: table and "
        "ingest.text"
    )


def _explain_nothing(
    root: Path, params: Coco, files: list[tuple[CocoFile, str | None]], names: ImageNames
) -> str:
    """Return why no image can be used."""
    listed = sum(len(file.images) for file, _ in files)
    missing = next((remark.names[0] for remark in names.remarks() if "not there" in remark.text), None)
    if missing is not None:
        return (
            f"{root}: none of the {listed} images in the annotations is there; the first one is {missing}; "
            "put the images into this folder, or set ingest.folder to one that holds them"
        )
    return (
        f"{root}: none of the {listed} images in the annotations can be used with ingest.truth = "
        f"{params.truth}; set it to another truth, or add images with such objects"
    )
