"""A table in the inbox: its rows, and the files that it names."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from temper.data.images.zip_archive import NAME
from temper.data.intake.offer import Arrival, Offer
from temper.data.source_params import Table
from temper.data.sources.table import ReadTable, columns_read, read_table
from temper.data.sources.table_file import read_columns
from temper.problem import Row


@dataclass
class DroppedTable:
    """A table in the inbox whose columns are those of the project's table."""

    name: str
    """Path below the folder of the new files, as all names here."""
    file: Path
    content: bytes
    separator: str | None
    cells: Mapping[str, list[Any]]
    """Column -> its cells."""
    files: list[tuple[str, ...]]
    """Names of the files of each row: its image and its mask, as far as it has them."""
    rows: list[Row]
    """The rows, with the paths of these files in an archive of the new files."""
    staying: set[int] = field(default_factory=set)
    """Numbers of the rows that stay in the inbox."""
    decided: dict[int, Arrival] = field(default_factory=dict)
    """Number of each other row -> what becomes of it."""

    def name_of(self, number: int) -> str:
        """Return the name of a row: that of its image, if it has one."""
        return self.files[number][0] if self.files[number] else f"{self.name} row {number + 1}"


def read_dropped(name: str, params: Table, project: Path, main: ReadTable, offer: Offer) -> DroppedTable:
    """Read a table of the inbox.

    Args:
        name: Path below the folder of the new files.
        params: Parameters of the source.
        project: Folder of the project.
        main: The project's table: the new one must have the columns that are read from it.
        offer: What is in the inbox.

    Raises:
        ValueError: If a column or a file is missing, a file is not in the inbox, or a row is incomplete.
    """
    file = offer.labelled / name
    same = file.suffix.lower() == Path(params.file).suffix.lower()
    separator = params.separator if same else None
    content = file.read_bytes()
    columns = read_columns(file, separator, content)
    names = main.reader.names
    for column, key in columns_read(params, names).items():
        if column not in columns.cells:
            raise ValueError(
                f"it has no column {column!r} (ingest.{key}), only {', '.join(columns.cells)}; name its "
                f"columns like those of {params.file}"
            )
    here = replace(
        params,
        file=file.relative_to(project).as_posix(),
        labels=names["labels"],
        separator=separator,
        joined_by=main.reader.joint,
    )
    table = read_table(here, project, columns)
    table.reader.files.check(here.file)
    dropped = DroppedTable(name, file, content, separator, columns.cells, [], [])
    for row in table.rows:
        found = _files(row, table, offer, here)
        dropped.files.append(tuple(found.values()))
        places: dict[str, Any] = {key: f"{NAME}/{each}" for key, each in found.items()}
        dropped.rows.append(replace(row, **places))
    return dropped


def _files(row: Row, table: ReadTable, offer: Offer, params: Table) -> dict[str, str]:
    """Return the names of the files of a row, by the attribute of the row.

    Raises:
        ValueError: If a file is not in the inbox: what the inbox takes, it moves.
    """
    root, found = offer.labelled.absolute(), dict[str, str]()
    for key in file_keys(table):
        place = table.reader.files.found[getattr(row, key).removeprefix(f"{NAME}/")]
        name = os.path.relpath(os.path.normpath(place), root)
        if name.startswith(os.pardir + os.sep):
            raise ValueError(
                f"{params.file} names {place}, which is not in {offer.labelled}; copy it there, and name it "
                "by its path from the table's folder"
            )
        found[key] = name
    return found


def file_keys(table: ReadTable) -> tuple[str, ...]:
    """Return which files each row of a table names: `path` and `mask`, as far as it has these columns."""
    return tuple(key for key in ("path", "mask") if table.reader.names[key])
