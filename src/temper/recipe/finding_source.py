"""Find the source that reads a folder or table, and the content of the table's columns."""

import math
import re
from pathlib import Path
from typing import Any

from temper.data.source_params import Table
from temper.data.sources.cell_text import text_of
from temper.data.sources.named_files import NamedFiles
from temper.data.sources.one_hot import find_one_hot
from temper.data.sources.split_names import split_of
from temper.data.sources.table_file import ENDINGS, read_columns
from temper.recipe.annotated_folders import Recognised
from temper.recipe.folder_kinds import recognise

_COLUMNS = {
    "path": (
        *("path", "file", "filename", "filepath", "image", "imagepath", "imagefile", "imagename", "img"),
        *("imageid", "imageindex", "idcode"),
    ),
    "labels": ("labels", "label", "class", "classes", "target", "category", "tags", "findinglabels"),
    "mask": ("mask", "masks", "maskpath"),
    "split": ("split", "subset", "set", "partition", "usage", "phase"),
    "group": ("group", "groupid", "patient", "patientid", "subject", "subjectid", "scene"),
}
"""Usual names of a table's columns, by their content: small letters and digits only."""
_QUANTITIES = frozenset(
    {"value", "values", "age", "count", "price", "weight", "height", "width", "length", "size", "angle"}
    | {"score", "rating", "temperature", "distance", "volume", "area", "depth", "speed", "bmi"}
)
"""Usual names of columns with numbers that shall be predicted."""
_MANY = 20
"""Number of different numbers in a column from which on they may be measurements rather than classes."""
_TRIED = 20
"""Number of cells of a column that are looked at for names of files."""
_NO_CLASS = re.compile(
    r"(is|has|was|in)[_ -].*|train|difficult|truncated|occluded|smoker|sex"
    r"|gender|male|female|test|val|valid|fold|flag|verified",
    re.I,
)
"""Names of columns of 0 and 1 that describe an image, and are no class that it shows."""


def find_source(data: Path) -> Recognised:
    """Return the source that reads a folder or table. Columns of a table are guessed from their names.

    Raises:
        ValueError: If there is no such folder or table, or a column cannot be guessed.
    """
    if data.suffix.lower() in ENDINGS and data.is_file():
        return Recognised(_name_columns(data))
    rule = (
        "a folder of class folders of images, of images with masks or with annotations (PASCAL VOC, COCO, "
        "YOLO), or a .csv, .tsv or .parquet table"
    )
    if not data.exists():
        raise ValueError(f"FOLDER = {str(data)!r} does not exist; name {rule}")
    if data.is_file():
        raise ValueError(
            f"FOLDER = {str(data)!r} is a file, but not a .csv, .tsv or .parquet table; name {rule}"
        )
    return recognise(data)


def _all_numbers(cells: list[Any]) -> bool:
    try:
        return all(math.isfinite(float(str(cell))) for cell in cells)
    except ValueError:
        return False


def _are_measured(cells: list[Any]) -> bool:
    """Return whether cells are measurements rather than numbers of classes: many, and seldom equal."""
    if not _all_numbers(cells):
        return False
    different = {float(str(cell)) for cell in cells}
    return len(different) > _MANY and 2 * len(different) > len(cells)


def _names_files(folder: Path, cells: list[Any]) -> bool:
    """Return whether the first cells of a column name files."""
    files = NamedFiles(folder)
    for cell in cells[:_TRIED]:
        files.add(str(cell))
    try:
        files.check("")
    except ValueError:
        return False
    return True


def _are_splits(cells: list[Any]) -> bool:
    """Return whether all cells of a column are empty or names of splits."""
    return all(not text or split_of(text) for text in map(text_of, cells))


def _name_columns(data: Path) -> Table:
    """Guess the content of each column from its name."""
    cells = read_columns(data).cells
    header = list(cells)
    by_name = {re.sub(r"[\W_]+", "", name.lower()): name for name in reversed(header)}
    found = {
        key: next((by_name[name] for name in names if name in by_name), None)
        for key, names in _COLUMNS.items()
    }
    paths = [by_name[name] for name in _COLUMNS["path"] if name in by_name]
    found["path"] = next((name for name in paths if _names_files(data.parent, cells[name])), found["path"])
    if (name := found["split"]) is not None and not _are_splits(cells[name]):
        found["split"] = None
    if (name := found["mask"]) is not None and not _names_files(data.parent, cells[name]):
        found["mask"] = None
    if found["path"] is None:
        raise ValueError(
            f"{data} has the columns {', '.join(header)}; none has a usual name for image paths: rename that "
            "column to `path`"
        )
    used = {name for key, name in found.items() if key != "labels" and name is not None}
    one_hot = tuple(
        name for name in find_one_hot(cells) if name not in used and not _NO_CLASS.fullmatch(name)
    )
    if len(one_hot) < 2 or found["labels"] is not None:
        one_hot = ()
    values: tuple[str, ...] = ()
    if found["labels"] is not None and found["mask"] is None and _are_measured(cells[found["labels"]]):
        values, found["labels"] = (found["labels"],), None
    elif found["labels"] is None and found["mask"] is None and not one_hot:
        named = [name for key, name in by_name.items() if key in _QUANTITIES and name not in used]
        values = tuple(name for name in reversed(named) if _all_numbers(cells[name]))[:1]
    if found["labels"] is None and found["mask"] is None and not one_hot and not values:
        raise ValueError(
            f"{data} has the columns {', '.join(header)}; none has a usual name for labels, masks or "
            "numbers: rename that column to `labels`, `mask` or `value`"
        )
    return Table(
        source="table",
        file=str(data.resolve()),
        path=found["path"],
        labels=found["labels"],
        mask=found["mask"],
        split=found["split"],
        group=found["group"],
        one_hot=one_hot,
        values=values,
    )
