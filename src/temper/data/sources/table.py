"""A CSV or Parquet file with a row per image: its path, labels or mask, optionally split and group.

Paths are relative to the table's folder. Several labels are joined by `;`, or are lists in Parquet. Every
file that the table names must exist. Images and masks are stored byte for byte in one archive.
"""

import csv
import difflib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from temper.data.images.zip_archive import NAME, write_archive
from temper.data.params import Table
from temper.data.sources.listing import Listing
from temper.problem import Row

SPLITS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


def fetch(params: Table, project: Path, out: Path) -> list[Row]:
    """Write `images.zip`, masks included; raise the errors of `list_rows`."""
    listing = list_rows(params, project)
    write_archive(listing.names, listing.find, out / NAME)
    return listing.rows


def list_rows(params: Table, project: Path) -> Listing:
    """Read the table, and check that the files in it exist, without reading them.

    Raises:
        ValueError: If the table or a column is missing, a row is incomplete, a split is unknown or a file
            does not exist.
    """
    file = project / params.file
    if not file.is_file():
        raise ValueError(
            f"ingest.file = {params.file!r}: {file} does not exist; set it to a .csv or .parquet file"
        )
    if params.labels is None and params.mask is None:
        raise ValueError("ingest.labels and ingest.mask are both null; set one to the column with the truth")
    table = read_columns(file)
    for key in ("path", "labels", "mask", "split", "group"):
        _require_column(params.file, key, getattr(params, key), list(table))
    files: dict[str, Path] = {}
    rows = []
    for number in range(len(next(iter(table.values())))):
        cells = {
            key: table[name][number]
            for key in ("path", "labels", "mask", "split", "group")
            if (name := getattr(params, key))
        }
        rows.append(_row(cells, f"{params.file} row {number + 1}", file.parent, files))
    _check(rows, files, params.file)
    return Listing(rows, list(files), files.__getitem__)


def read_columns(file: Path) -> dict[str, list[Any]]:
    """Read the table as columns.

    Raises:
        ValueError: If the file is not CSV or Parquet, or has no rows.
    """
    if file.suffix.lower() == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            columns: dict[str, list[Any]] = pq.read_table(file).to_pydict()
        except pa.ArrowInvalid as error:
            raise ValueError(f"{file} is not a Parquet file: {error}") from error
    elif file.suffix.lower() == ".csv":
        try:
            with file.open(encoding="utf-8-sig", newline="") as stream:
                lines = [line for line in csv.reader(stream, strict=True) if line]
        except (UnicodeDecodeError, csv.Error) as error:
            raise ValueError(f"{file} is not a CSV file in UTF-8: {error}") from error
        header = lines[0] if lines else []
        for number, line in enumerate(lines[1:], 1):
            if len(line) != len(header):
                raise ValueError(
                    f"{file} row {number} has {len(line)} cells, but the header has {len(header)}; correct it"
                )
        columns = {name.strip(): [line[i] for line in lines[1:]] for i, name in enumerate(header)}
    else:
        raise ValueError(
            f"ingest.file = {file.name!r} ends in {file.suffix!r}; a table must be a .csv or .parquet file"
        )
    if not columns or not next(iter(columns.values())):
        raise ValueError(f"{file} has no rows; a table needs a header and one row per image")
    return columns


def _require_column(file: str, key: str, name: str | None, found: Sequence[str]) -> None:
    if name is None or name in found:
        return
    near = difflib.get_close_matches(name, found, n=1, cutoff=0.4)
    hint = f"the nearest is {near[0]!r}" if near else f"it has {', '.join(found)}"
    way = f"set ingest.{key}" + ("" if key == "path" else " (null for none)")
    raise ValueError(f"{file} has no column {name!r} for ingest.{key}; {hint}; {way}")


def _row(cells: dict[str, Any], where: str, root: Path, files: dict[str, Path]) -> Row:
    """Make a row, and add the files that it names to `files`, under their names in the archive."""
    path, mask = _text(cells["path"]), _text(cells.get("mask"))
    if not path:
        raise ValueError(f"{where} has no path; fill it in or remove the row")
    if "mask" in cells and not mask:
        raise ValueError(f"{where} ({path}) has no mask; fill it in or remove the row")
    split = _text(cells.get("split"))
    if split and split not in SPLITS:
        near = difflib.get_close_matches(split, list(SPLITS), n=1, cutoff=0.4)
        hint = f" (the nearest is {near[0]!r})" if near else ""
        raise ValueError(
            f"{where} has split {split!r}{hint}; write train, validation (or val) or test, or leave it empty"
        )
    for name in (path, mask):
        if name:
            files[_member(name)] = root / name
    return Row(
        id=path,
        path=f"{NAME}/{_member(path)}",
        labels=_labels(cells.get("labels")),
        mask=f"{NAME}/{_member(mask)}" if mask else None,
        split=SPLITS[split] if split else None,
        group=_text(cells.get("group")) or None,
    )


def _labels(cell: Any) -> tuple[str, ...]:
    values = cell if isinstance(cell, list) else _text(cell).split(";")
    return tuple(dict.fromkeys(text for value in values if (text := _text(value))))


def _text(cell: Any) -> str:
    return "" if cell is None else str(cell).strip()


def _member(path: str) -> str:
    """Return the name inside the archive for a path; it never points outside the archive."""
    parts = PurePosixPath(path.replace("\\", "/")).parts
    return "/".join("_up" if part == ".." else part for part in parts if part != "/")


def _check(rows: Sequence[Row], files: dict[str, Path], table: str) -> None:
    seen: set[str] = set()
    for number, row in enumerate(rows, 1):
        if row.path in seen:
            raise ValueError(
                f"{table} row {number} lists {row.id} a second time; "
                "write one row per image, with several labels joined by `;`"
            )
        seen.add(row.path)
    missing = [file for file in files.values() if not file.is_file()]
    if missing:
        listed = ", ".join(str(file) for file in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{table}: these files do not exist ({len(missing)} in all): {listed}; "
            "paths are relative to the table's folder"
        )
