"""A CSV, TSV or Parquet file with a row per image: its path, labels or mask, optionally split and group.

Paths are relative to the table's folder. Every file that the table names must exist. Images and masks are
stored byte for byte in one archive.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temper.data.remark import Remark, remark_on
from temper.data.source_params import Table
from temper.data.sources.given_cells import GivenCells
from temper.data.sources.listing import Listing
from temper.data.sources.mask_pairs import check_pairs
from temper.data.sources.measured_cells import Measured
from temper.data.sources.one_hot import find_one_hot
from temper.data.sources.table_file import Columns, read_columns
from temper.data.sources.table_rows import RowReader
from temper.problem import Row

_KEYS = ("path", "labels", "mask", "split", "group")
_TRUTHS = ("one_hot", "values", "points", "boxes")
"""Parameters of ingest that name what is true in several columns, or otherwise than by labels and masks."""


@dataclass(frozen=True)
class ReadTable:
    """The rows of a table, and how it was read."""

    rows: list[Row]
    columns: Columns
    reader: RowReader
    """Knows the columns that are read and the files that they name."""


def list_rows(params: Table, project: Path) -> Listing:
    """Read the table, and check that the files in it exist, without reading them.

    Raises:
        ValueError: If the table, a column or a file is missing, a row is incomplete or a split is unknown.
    """
    table = read_table(params, project)
    files = table.reader.files
    files.check(params.file)
    return Listing(
        table.rows,
        list(files.found),
        files.found.__getitem__,
        (
            *table.columns.remarks,
            *table.reader.remarks(),
            *check_pairs(table.rows),
            *_remark_on_unread(columns_read(params, table.reader.names), table.columns.cells),
        ),
        (project / params.file,),
    )


def read_table(params: Table, project: Path, columns: Columns | None = None) -> ReadTable:
    """Read the table, but not the files in it.

    Args:
        params: Parameters of the source.
        project: Folder to which the table's path is relative.
        columns: Content of the table; None to read it.

    Raises:
        ValueError: If the table or a column is missing, a row is incomplete or a split is unknown.
    """
    file = project / params.file
    if not file.is_file():
        raise ValueError(
            f"ingest.file = {params.file!r}: {file} does not exist; set it to a .csv, .tsv or .parquet file"
        )
    table = columns or read_columns(file, params.separator)
    names = {key: getattr(params, key) for key in _KEYS}
    others = [key for key in _TRUTHS if getattr(params, key)]
    if not params.gives:
        raise ValueError(
            "ingest.path, ingest.text and ingest.numbers are all unset; name a column to learn from"
        )
    if others and names["labels"] not in table.cells:
        names["labels"] = None
    _check_truth(params, names, others)
    if names["labels"] is None and names["mask"] is None and not others:
        raise ValueError("ingest.labels and ingest.mask are both null; set one to the column with the truth")
    if names["path"] is not None and names["path"] not in table.cells:
        _require_header(file, table.cells)
    for key, name in names.items():
        _require_column(params.file, key, name, table.cells)
    for key, listed in _listed(params).items():
        for name in listed:
            _require_column(params.file, key, name, table.cells)
    reader = RowReader(params, file, {key: table.cells[name] for key, name in names.items() if name}, names)
    reader.one_hot = {name: table.cells[name] for name in params.one_hot}
    reader.measured = Measured(table.cells, params.values, params.points, params.boxes, params.boxes_in)
    reader.given = GivenCells(table.cells, params.text, params.numbers)
    rows = [reader.row(number) for number in range(len(next(iter(table.cells.values()))))]
    reader.measured.check()
    return ReadTable(rows, table, reader)


def columns_read(params: Table, names: Mapping[str, str | None]) -> dict[str, str]:
    """Return the columns that are read, each with the parameter of ingest that names it.

    Args:
        params: Parameters of the source.
        names: Parameter of ingest -> name of its column, None if there is none.
    """
    read = {name: key for key, name in names.items() if name}
    return read | {name: key for key, listed in _listed(params).items() for name in listed}


def _listed(params: Table) -> dict[str, tuple[str, ...]]:
    """Return the columns that are named by a list, by parameter."""
    places = tuple(name for pair in params.points.values() for name in pair)
    texts, boxes = (() if name is None else (name,) for name in (params.text, params.boxes))
    return {
        "one_hot": params.one_hot,
        "values": params.values,
        "points": places,
        "boxes": boxes,
        "text": texts,
        "numbers": params.numbers,
    }


def _check_truth(params: Table, names: Mapping[str, str | None], others: Sequence[str]) -> None:
    """Refuse two truths, and a column that is named twice or is both given and asked for.

    Raises:
        ValueError: Names the parameters and the way out.
    """
    both = [f"{key} = {names[key]!r}" for key in ("labels", "mask") if names[key] is not None and others]
    if len(both) + len(others) > 1:
        first, second, *_ = [*both, *others]
        raise ValueError(f"ingest.{first} and ingest.{second} are both set; set one of them to null")
    listed = _listed(params)
    apart = tuple(name for pair in params.points.values() for name in dict.fromkeys(pair))
    for key, columns in {**listed, "points": apart}.items():
        if twice := [name for name in columns if columns.count(name) > 1]:
            raise ValueError(f"ingest.{key} names the column {twice[0]!r} twice; name each column once")
    told = {name: key for key in ("labels", "mask") if (name := names[key]) is not None}
    told |= {name: key for key in _TRUTHS for name in listed[key]}
    for key in ("text", "numbers"):
        if shared := [name for name in listed[key] if name in told]:
            raise ValueError(
                f"the column {shared[0]!r} is given (ingest.{key}) and asked for (ingest.{told[shared[0]]}): "
                f"a network would only copy it; remove it from ingest.{key}"
            )


def _remark_on_unread(read: Collection[str], cells: Iterable[str]) -> list[Remark]:
    """Return which columns are not read."""
    return remark_on("left out", "columns are not read", [name for name in cells if name not in read])


def _require_header(file: Path, cells: dict[str, list[Any]]) -> None:
    """Refuse a table whose first line names a file, so that it is no header."""
    for name in cells:
        if name and (file.parent / name).is_file():
            raise ValueError(
                f"{file} has no header: its first line names the file {name!r}; write a first line that "
                "names the columns, for example path,labels"
            )


def _require_column(file: str, key: str, name: str | None, cells: dict[str, list[Any]]) -> None:
    if name is None or name in cells:
        return
    if key == "labels" and len(flags := find_one_hot(cells)) > 1:
        hint = (
            f"the columns {', '.join(flags[:6])} hold 0 and 1; set ingest.one_hot to those that are classes"
        )
        raise ValueError(f"{file} has no column {name!r} for ingest.labels; {hint}")
    if len(cells) == 1 or any(each[:1] in "'`" for each in cells):
        raise ValueError(
            f"{file} has no column {name!r} for ingest.{key}: its header is {', '.join(map(repr, cells))}; "
            'cells are separated by the character in ingest.separator (usually a comma) and quoted by ", and '
            "by no other sign"
        )
    near = difflib.get_close_matches(name, list(cells), n=1, cutoff=0.4)
    hint = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(cells)}"
    way = f"set ingest.{key}" + (
        "" if key in ("path", "one_hot", "values", "points", "numbers") else " (null for none)"
    )
    raise ValueError(f"{file} has no column {name!r} for ingest.{key}; {hint}; {way}")
