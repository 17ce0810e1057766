"""The project's table with the rows that it gets from the inbox."""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from temper.data.images.zip_archive import NAME
from temper.data.intake.dropped_table import file_keys
from temper.data.intake.offer import Contents, Offer, Write, place_in
from temper.data.intake.table_writing import open_table
from temper.data.source_params import Table
from temper.data.sources.table import read_table
from temper.data.sources.table_file import read_columns
from temper.problem import Row

TAKEN = "taken"
"""Folder beside the table for images that come from the inbox; its subfolder `masks` is for their masks."""


@dataclass(frozen=True)
class _Example:
    """A row of the table, and its files."""

    row: Row
    files: tuple[Path, ...]
    """Its image and its mask, as far as it has them."""


class GrownTable:
    """The project's table with the rows that it gets from the inbox.

    Args:
        params: Parameters of the source.
        project: Folder of the project.
        offer: What is in the inbox.

    Raises:
        ValueError: If the table cannot be read or is in the inbox, or the inbox is where new images go.
    """

    def __init__(self, params: Table, project: Path, offer: Offer) -> None:
        self.params, self._project, self._file = params, project, project / params.file
        raw = self._file.read_bytes() if self._file.is_file() else None
        columns = None if raw is None else read_columns(self._file, params.separator, raw)
        self.table = read_table(params, project, columns)
        files = self.table.reader.files
        files.check(params.file)
        self._folder, inbox = self._file.parent, offer.inbox.resolve()
        taken = (self._folder / TAKEN).resolve()
        if self._file.resolve().is_relative_to(inbox) or inbox.is_relative_to(taken):
            raise ValueError(
                f"retrain.inbox = {str(offer.inbox.relative_to(project))!r}: the inbox must neither contain "
                f"{params.file} nor be in {taken}, which gets the new images; name another folder"
            )
        self._raw = raw or b""
        self._writer = open_table(self._file, self._raw, params.separator, self.table.reader.joint)
        paths = {f"{NAME}/{member}": Path(place) for member, place in files.found.items()}
        self.contents = Contents(paths.values())
        self._keys = file_keys(self.table)
        self._examples: dict[tuple[str, str], list[_Example]] = {}
        for row in self.table.rows:
            self._remember(row, tuple(paths[getattr(row, key)] for key in self._keys))
        self._rows: list[Row] = []
        self._cells: list[dict[str, Any]] = []

    @property
    def num_new(self) -> int:
        """Number of new rows."""
        return len(self._rows)

    def find_alike(self, row: Row, files: Sequence[Path]) -> list[str]:
        """Return the rows of the table that give the same as a new one, to the byte of the image.

        Args:
            row: The new row.
            files: Its image and its mask, as far as it has them.
        """
        return [self._shorten(each) for each in self._alike(row, files)]

    def find_disputed(self, row: Row, files: Sequence[Path]) -> str | None:
        """Return such a row of the table that says something else of it, e.g. has another label or mask."""
        digests = [self.contents.digest(path) for path in files]
        for each in self._alike(row, files):
            same = {*each.row.labels} == {*row.labels} and _plain(each.row.truth) == _plain(row.truth)
            if not same or [self.contents.digest(path) for path in each.files] != digests:
                return self._shorten(each)
        return None

    def add(self, row: Row, cells: Mapping[str, Any], files: Sequence[Path]) -> tuple[Path, ...]:
        """Add a row; return where its files go.

        Args:
            row: The row.
            cells: Column -> its cell, as the inbox's table has it.
            files: Its image and its mask, as far as it has them.

        Raises:
            ValueError: If a column of the table cannot contain its cell.
        """
        found = {name: cell for name, cell in cells.items() if name}
        names, places = self.table.reader.names, list[Path]()
        if labels := names["labels"]:
            found[labels] = row.labels
        for key, path in zip(self._keys, files, strict=True):
            # Rows may share an image and give other texts or numbers, but no two rows name one path.
            digest = self._digest(row, path) if key == "path" else None
            folder = self._folder / TAKEN / ("" if key == "path" else "masks")
            places.append(place_in(folder, path, self.contents, digest))
            found[str(names[key])] = places[-1].relative_to(self._folder).as_posix()
        self._cells.append(self._writer.fit(found))
        self._rows.append(row)
        for place, path in zip(places, files, strict=True):
            self.contents.add(place, path)
        self._remember(row, tuple(places))
        return tuple(places)

    def _remember(self, row: Row, files: tuple[Path, ...]) -> None:
        """Make a row known, by the image that it names and by what else it gives."""
        image = str(files[0]) if files else ""
        self._examples.setdefault((image, _plain(row.given)), []).append(_Example(row, files))

    def _alike(self, row: Row, files: Sequence[Path]) -> list[_Example]:
        images = map(str, self.contents.alike(files[0])) if files else [""]
        given = _plain(row.given)
        return [each for image in images for each in self._examples.get((image, given), [])]

    def _digest(self, row: Row, image: Path) -> str:
        """Return the digest of what a row gives: an image, and perhaps a text and numbers."""
        digest = self.contents.digest(image)
        given = _plain(row.given)
        return digest if not given else hashlib.sha256(f"{digest} {given}".encode()).hexdigest()

    def _shorten(self, example: _Example) -> str:
        """Return the path of an image as the table names it, or the name of a row without one."""
        if not example.files:
            return example.row.id
        path = example.files[0]
        return path.relative_to(self._folder).as_posix() if path.is_relative_to(self._folder) else str(path)

    def write(self) -> Write:
        """Return the table with the new rows.

        Raises:
            ValueError: If it is read-only, or would be read otherwise with the new rows.
        """
        file = self.params.file
        if not self._file.stat().st_mode & 0o222:
            raise ValueError(
                f"{file} is read-only, so it cannot take {self.num_new} new rows; make it writable: "
                f"`dvc unprotect {file}` if DVC tracks it, otherwise `chmod u+w {file}`"
            )
        content = self._writer.append(self._cells)
        try:
            columns = read_columns(self._file, self.params.separator, content)
            self._compare(read_table(self.params, self._project, columns).rows)
        except ValueError as error:
            raise ValueError(
                f"{file} was left as it is, since the {self.num_new} new rows of the inbox would change how "
                f"it is read: {error}"
            ) from error
        return Write(self._file.resolve(), content, hashlib.sha256(self._raw).hexdigest())

    def _compare(self, rows: Sequence[Row]) -> None:
        """Check that the table gives the rows of before, and then the new ones.

        How cells are separated and labels are joined may be a guess, which further rows may change.

        Raises:
            ValueError: If a row is another one.
        """
        before = len(self.table.rows)
        wanted = [*self.table.rows, *self._rows]
        for number, (row, right) in enumerate(zip(rows, wanted, strict=False)):
            if row != right and (number < before or _without_files(row) != _without_files(right)):
                raise ValueError(
                    f"{right.id} would have {', '.join(row.labels) or 'no label'} instead of "
                    f"{', '.join(right.labels) or 'no label'}; say how it is written: set ingest.joined_by "
                    f"(now {self.table.reader.joint!r}) and ingest.separator"
                )
        if len(rows) != len(wanted):
            raise ValueError(f"it would have {len(rows)} rows instead of {len(wanted)}; set ingest.separator")

    def explain_columns(self, name: str, columns: Collection[str]) -> list[str]:
        """Return which columns of a table of the inbox are left out, and which ones it leaves empty."""
        known = [each for each in self._writer.columns if each]
        extra = ", ".join(each for each in columns if each and each not in known)
        empty = ", ".join(each for each in known if each not in columns)
        file = self.params.file
        return [
            *([f"left out the columns {extra} of {name}, which {file} does not have"] if extra else []),
            *([f"left the columns {empty} of {file} empty, which {name} does not have"] if empty else []),
        ]


def _without_files(row: Row) -> Row:
    """Return what a row says beside its files, group and numbers, which may be written otherwise."""
    mask = "mask" if row.mask else None
    return replace(row, id="", path="", mask=mask, group=None, truth=None, given=None)


def _plain(value: str | None) -> str:
    """Return JSON with its numbers as float32, as networks see them and Parquet files may contain them.

    Example:
        >>> _plain('{"age": 0.1}') == _plain('{"age": 0.10000000149}'), _plain(None)
        (True, '')
    """
    if value is None:
        return ""
    return json.dumps(json.loads(value, parse_float=lambda text: float(np.float32(text))), sort_keys=True)
