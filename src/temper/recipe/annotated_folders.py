"""Folders of images with files of annotations: what they hold, and which truth is read first.

Boxes are read if there are any, since most tools write them beside everything else; then outlines, then
points. What is not read is named with the parameters that read it.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from temper.data.source_params import AnySource, Coco, Truth, Voc, Yolo
from temper.data.sources.coco import leave_twins
from temper.data.sources.coco_file import CocoFile, read_coco
from temper.data.sources.coco_objects import truths_of
from temper.data.sources.litter import is_image, is_litter
from temper.data.sources.walk import list_files
from temper.data.sources.yolo import texts_of
from temper.data.sources.yolo_data import read_data, read_text

_LOOKED_AT = 20
"""Number of .xml files whose beginning is read, of .json files that are read (the largest), and of text files
that must look like rows."""
_BEGINNING = 500
_ROW = re.compile(r"\s*\d+(\.0*)?(\s+[-+]?[\d.]+(e[-+]?\d+)?){4,}\s*", re.I)
"""A class number and at least four other numbers."""
_KINDS: Mapping[Truth, tuple[str, str]] = {
    "boxes": ("boxes", "ingest.truth: boxes and problem.kind: detection"),
    "masks": ("outlines", "ingest.truth: masks and problem.kind: segmentation"),
    "points": ("objects with points", "ingest.truth: points and problem.kind: keypoints"),
}
"""Truth -> what annotations hold of it, and the parameters with which it is learned."""


@dataclass(frozen=True)
class Recognised:
    """A folder whose form is known."""

    source: AnySource
    why: str = ""
    """What was found, as a line for the user; empty for class folders."""


def find_voc(folder: Path) -> Recognised | None:
    """Recognise .xml files that annotate images, as those of PASCAL VOC."""
    files = [path for path in folder.rglob("*.xml") if not is_litter(path.name)]
    if not any(_is_annotation(path) for path in islice(sorted(files), _LOOKED_AT)):
        return None
    why = f"{len(files):,} .xml files in the form of PASCAL VOC: boxes (ingest.source: voc)"
    return Recognised(Voc(source="voc", folder=str(folder.resolve())), why)


def find_coco(folder: Path) -> Recognised | None:
    """Recognise files in COCO's form that list objects; captions, and other JSON beside images, are none.

    Raises:
        ValueError: If a file seems to be of this form, but is no JSON.
    """
    names = [name for name in list_files(str(folder)).companions if name.lower().endswith(".json")]
    largest = sorted(names, key=lambda name: (-(folder / name).stat().st_size, name))[:_LOOKED_AT]
    read = {name: file for name in sorted(largest) if (file := _read_json(folder / name, name)) is not None}
    files = leave_twins(read, "boxes")
    annotations = [each for file in files.values() for each in file.annotations]
    if not annotations:
        return None
    truth, found = _choose(Counter(truth for each in annotations for truth in truths_of(each)))
    listed = ", ".join(islice(files, 3)) + (", ..." if len(files) > 3 else "")
    why = f"{len(files)} JSON files in COCO's form ({listed}; ingest.source: coco): {found}"
    return Recognised(Coco(source="coco", folder=str(folder.resolve()), truth=truth), why)


def find_yolo(folder: Path) -> Recognised | None:
    """Recognise text files of rows beside images or in `labels`, as YOLO's tools read them.

    Raises:
        ValueError: If data.yaml cannot be read.
    """
    walk = list_files(str(folder))
    texts = {name for name in walk.companions if name.lower().endswith(".txt")}
    places = (texts_of(image) for image in walk.files if is_image(image))
    found_texts = (next((name for name in listed if name in texts), None) for listed in places)
    paired = sorted({name for name in found_texts if name is not None})
    filled = (rows for name in paired if (rows := _rows(folder / name)))
    looked_at = [row for rows in islice(filled, _LOOKED_AT) for row in rows]
    if not looked_at or 2 * sum(bool(_ROW.fullmatch(row)) for row in looked_at) < len(looked_at):
        return None
    data = read_data(folder, sorted(texts))
    counts = [len(row.split()) for name in paired for row in _rows(folder / name)]
    more = sum(count > 5 for count in counts)
    boxes = len(counts) if data.points else len(counts) - more
    truth, found = _choose(Counter({"boxes": boxes, "points" if data.points else "masks": more}))
    names = f"classes named by {data.named_by.relative_to(folder)}; " if data.named_by else ""
    why = f"{len(paired):,} .txt files of rows in YOLO's form ({names}ingest.source: yolo): {found}"
    return Recognised(Yolo(source="yolo", folder=str(folder.resolve()), truth=truth), why)


def _choose(counts: Counter[Truth]) -> tuple[Truth, str]:
    """Return which truth is read, and what was found, with the way to read something else.

    Example:
        >>> _choose(Counter({"boxes": 9}))
        ('boxes', '9 boxes')
        >>> _choose(Counter({"boxes": 9, "masks": 3}))[1].partition(": masks")[0]
        '9 boxes, 3 outlines; boxes are read; for the outlines, set ingest.truth'
    """
    truth: Truth = next((each for each in _KINDS if counts[each]), "boxes")
    listed = [f"{counts[each]:,} {name}" for each, (name, _) in _KINDS.items() if counts[each]]
    others = {each: f"the {name}" for each, (name, _) in _KINDS.items() if counts[each] and each != truth}
    found = ", ".join(listed) or "no objects"
    if truth == "masks":
        others["boxes"], found = "boxes round them", f"{found}, which are drawn as masks"
    elif others:
        found = f"{found}; {_KINDS[truth][0]} are read"
    return truth, "".join([found, *(f"; for {each}, set {_KINDS[of][1]}" for of, each in others.items())])


def _is_annotation(path: Path) -> bool:
    try:
        with path.open("rb") as stream:
            return b"<annotation" in stream.read(_BEGINNING)
    except OSError:
        return False


def _read_json(path: Path, name: str) -> CocoFile | None:
    """Return a file in COCO's form that lists objects; None for any other one.

    Raises:
        ValueError: If it seems to be of this form, but is no JSON.
    """
    try:
        raw = path.read_bytes()
    except OSError:
        return None
    file = read_coco(path, name, raw) if b'"annotations"' in raw and b'"images"' in raw else None
    return file if file is not None and file.images and file.has_objects else None


def _rows(path: Path) -> list[str]:
    """Return the rows of a text file that are not empty; those of a file that is no text are one odd row."""
    try:
        return [line for line in read_text(path).splitlines() if line.strip()]
    except ValueError as error:
        return [str(error)]
