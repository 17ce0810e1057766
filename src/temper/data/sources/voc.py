"""A folder in the form of PASCAL VOC: an XML file of boxes for each image, and lists of images by split.

Images lie in `JPEGImages` or anywhere below the folder, annotations in `Annotations` or beside the images;
`ImageSets/Main/train.txt` and the like name the images of the splits. Without such lists, folders of images
that are called like two or more splits are splits.

Boxes of VOC count pixels from 1, and the last one belongs to the box; tools of today count from 0. A data set
in which some box begins at 0 counts from 0, another one from 1, and the report says which.
"""

import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal

from temper.data.remark import Remark, remark_on
from temper.data.source_params import Voc
from temper.data.sources.annotated import AnnotatedImages, Thing
from temper.data.sources.drawn_boxes import Drawn
from temper.data.sources.listing import Listing
from temper.data.sources.litter import is_image, is_litter
from temper.data.sources.odd_labels import remark_on_labels
from temper.data.sources.split_names import split_in, split_of
from temper.data.sources.walk import list_files

_SIDES = ("xmin", "ymin", "xmax", "ymax")
_LISTS = ("ImageSets", "Main")


DIFFICULT = "boxes are marked as difficult"
"""What VOC calls boxes that are neither right nor wrong."""


@dataclass(frozen=True)
class Annotation:
    """What an XML file says of its image."""

    name: str
    """Name of the XML file."""
    size: tuple[float, float]
    """Width and height of the image in pixels; 0 if the file does not say them."""
    boxes: list[tuple[str, tuple[float, ...], bool]]
    """Label, sides as they are written, and whether the object is marked as difficult."""

    @property
    def starts(self) -> list[float]:
        """Left and top sides of all boxes."""
        return [side for _, sides, _ in self.boxes for side in sides[:2]]

    def things(self, first: int) -> list[Thing]:
        """Return the objects from pixel 0 on: boxes that count from 1 include the last pixel."""
        return [
            Thing(label, Drawn(label, (sides[0] - first, sides[1] - first, *sides[2:]), sides, difficult))
            for label, sides, difficult in self.boxes
        ]


@dataclass
class _Found:
    """What was decided about the files."""

    without_truth: list[str] = field(default_factory=list)
    without_image: list[str] = field(default_factory=list)
    same_name: list[str] = field(default_factory=list)
    no_split: list[str] = field(default_factory=list)
    only_listed: list[str] = field(default_factory=list)
    by_folder: list[str] = field(default_factory=list)

    def by_stem(self, names: list[str]) -> dict[str, str]:
        """Return the first file of each name, whatever its folder and ending."""
        kept: dict[str, str] = {}
        for name in names:
            if kept.setdefault(PurePosixPath(name).stem, name) != name:
                self.same_name.append(name)
        return kept

    def remarks(self, *, first: int, guessed: bool) -> list[Remark]:
        counted = f"boxes are taken to count pixels from {first}"
        reason = "some begin at 0" if first == 0 else "none begins at 0, as VOC itself does"
        return [
            *(
                [Remark("guessed", f"{counted}: {reason}; ingest.first_pixel decides otherwise")]
                if guessed
                else []
            ),
            *remark_on("guessed", "folders are splits, by their names", self.by_folder),
            *remark_on("left out", "images have no annotation", self.without_truth),
            *remark_on("left out", "annotations have no image", self.without_image),
            *remark_on("left out", "files have the name of another one in another folder", self.same_name),
            *remark_on(
                "left out", "images of the lists are not there, or have no annotation", self.only_listed
            ),
            *remark_on("noticed", "images are in no split, and are trained with", self.no_split),
        ]


@dataclass(frozen=True)
class VocFolder:
    """A folder that was read."""

    listing: Listing
    first: Literal[0, 1]
    """Number of the first pixel."""
    annotations: Mapping[str, Path]
    """Image -> its .xml file."""
    listed: bool
    """Whether lists name the images of the splits."""


def list_rows(params: Voc, project: Path) -> Listing:
    """List the images with their boxes; no image is read.

    Raises:
        ValueError: As for `read_folder`.
    """
    return read_folder(params, project).listing


def read_folder(params: Voc, project: Path) -> VocFolder:
    """Read the annotations of a folder; no image is read.

    Raises:
        ValueError: If the folder is missing, has no annotations, or an annotation cannot be read.
    """
    root = project / params.folder
    if not root.is_dir():
        raise ValueError(
            f"ingest.folder = {params.folder!r}: {root} does not exist; name the folder that holds "
            "Annotations and JPEGImages"
        )
    found_files = (path for path in root.rglob("*.xml") if not is_litter(path.name))
    names = sorted(path.relative_to(root).as_posix() for path in found_files)
    if not names:
        raise ValueError(
            f"{root} has no .xml files; annotations of PASCAL VOC are .xml files in Annotations/"
        )
    walk = list_files(str(root))
    found = _Found()
    images = found.by_stem([name for name in walk.files if is_image(name)])
    listed = {stem: read_annotation(root / name, name) for stem, name in found.by_stem(names).items()}
    read = {stem: each for stem, each in listed.items() if each is not None}
    starts = {side for each in read.values() for side in each.starts}
    guessed: Literal[0, 1] = 0 if 0 in starts else 1
    first = params.first_pixel if params.first_pixel is not None else guessed
    lists = tuple(sorted(root.joinpath(*_LISTS).glob("*.txt")))
    by_list = _splits(root)
    splits = by_list or _by_folder({stem: images[stem] for stem in read if stem in images}, found)
    seen = AnnotatedImages("boxes", params.boxes_in, root.joinpath)
    for stem, each in read.items():
        if stem not in images:
            found.without_image.append(each.name)
            continue
        if splits and stem not in splits:
            found.no_split.append(images[stem])
        seen.add(images[stem], each.things(first), each.size, splits.get(stem))
    found.only_listed += [stem for stem in splits if stem not in read or stem not in images]
    found.without_truth += [name for stem, name in images.items() if stem not in read]
    rows = seen.rows()
    if not rows:
        raise ValueError(
            f"{root}: none of the {len(names)} annotations has an image of the same name; the first one is "
            f"{names[0]}; put the images into {root / 'JPEGImages'}"
        )
    odd = remark_on_labels(
        {label for row in rows for label in row.labels}, apart="rename them in the .xml files"
    )
    remarks = found.remarks(first=first, guessed=params.first_pixel is None)
    remarks += seen.remarks(crowds=DIFFICULT)
    listing = seen.listing(rows, root, [*remarks, *odd], [*(root / name for name in names), *lists])
    annotations = {row.id: root / read[PurePosixPath(row.id).stem].name for row in rows}
    return VocFolder(listing, first, annotations, bool(by_list))


def read_annotation(path: Path, name: str) -> Annotation | None:
    """Read an annotation; None if the file is about something else.

    Raises:
        ValueError: If it is no XML, or a box has no label or lacks a side.
    """
    try:
        document = ET.parse(path).getroot()
    except ET.ParseError as error:
        raise ValueError(f"{path} is no XML ({error}); repair or remove it") from None
    if document.tag != "annotation":
        return None
    width, height = (
        _number(document.findtext(f"size/{side}"), path, f"size/{side}") for side in ("width", "height")
    )
    boxes: list[tuple[str, tuple[float, ...], bool]] = []
    for each in document.findall("object"):
        label = unicodedata.normalize("NFC", (each.findtext("name") or "").strip())
        if not label:
            raise ValueError(f"{path} has an object without a name; name it, or remove the object")
        sides = tuple(_number(each.findtext(f"bndbox/{side}"), path, f"bndbox/{side}") for side in _SIDES)
        boxes.append((label, sides, (each.findtext("difficult") or "0").strip() not in ("0", "")))
    return Annotation(name, (width, height), boxes)


def _number(text: str | None, path: Path, what: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"{path}: <{what}> is {text!r}, which is no number; correct it") from None


def _splits(root: Path) -> dict[str, str]:
    """Return the split of each image that a list names; lists of single classes are not read.

    `trainval` is for training, apart from images that another list names.

    Raises:
        ValueError: If an image is in two lists of different splits.
    """
    found: dict[str, str] = {}
    folder = root.joinpath(*_LISTS)
    for path in sorted(folder.glob("*.txt")):
        split = split_of(path.stem)
        for stem in _stems(path) if split else ():
            if found.setdefault(stem, split or "") != split:
                raise ValueError(
                    f"{folder}: {stem} is in the lists of {found[stem]} and of {split}; it can be in one "
                    "only: remove it from the other"
                )
    both = folder / "trainval.txt"
    return {**dict.fromkeys(_stems(both), "train"), **found} if both.is_file() else found


def _by_folder(images: Mapping[str, str], found: _Found) -> dict[str, str]:
    """Return the split of each image, by the names of folders; empty if they do not say two splits."""
    folders = {stem: str(PurePosixPath(name).parent) for stem, name in images.items()}
    splits = {stem: split for stem, folder in folders.items() if (split := split_in(folder)) is not None}
    if len({*splits.values()}) < 2:
        return {}
    named = dict.fromkeys(f"{folders[stem]} ({split})" for stem, split in splits.items())
    found.by_folder += named
    return splits


def _stems(path: Path) -> list[str]:
    """Return the first word of each line that is not empty."""
    return [line.split()[0] for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
