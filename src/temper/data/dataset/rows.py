"""The readable table of examples that ingest leaves: one line per image, before anything was decoded."""

from collections.abc import Iterator, Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any, final, overload

import numpy as np

from temper.problem import Row

FILE = "rows.parquet"
GROUP = 1 << 17
"""Rows of a group in a Parquet file: what is written and read at a time."""
_NAMES = [item.name for item in fields(Row)]


@final
class Rows(Sequence[Row]):
    """Rows as columns: a hundred bytes or so each; a row becomes an object only when it is asked for.

    Args:
        table: Arrow table with a column per field of `Row`.
        origin: Folder that the paths are shown below instead, as `as_found` does.
    """

    def __init__(self, table: Any, origin: str | None = None) -> None:
        self.table, self._origin = table, origin

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @overload
    def __getitem__(self, number: int) -> Row: ...

    @overload
    def __getitem__(self, number: slice) -> "Rows": ...

    def __getitem__(self, number: int | slice) -> "Row | Rows":
        if isinstance(number, slice):
            start, stop, step = number.indices(len(self))
            assert step == 1, "rows are cut in one piece"
            return Rows(self.table.slice(start, max(0, stop - start)), self._origin)
        if not -len(self) <= number < len(self):
            raise IndexError(number)
        return next(iter(self[number % len(self) : number % len(self) + 1]))

    def __iter__(self) -> Iterator[Row]:
        for batch in self.table.to_batches(max_chunksize=4096):
            columns = dict(zip(_NAMES, (batch.column(name).to_pylist() for name in _NAMES), strict=True))
            columns["labels"] = [tuple(value) for value in columns["labels"]]
            if self._origin is not None:
                columns["path"] = [str(PurePosixPath(self._origin) / name) for name in columns["id"]]
            for values in zip(*columns.values(), strict=True):
                yield Row(*values)

    def take(self, numbers: "np.ndarray | Sequence[int]") -> "Rows":
        """Some rows, in the order of `numbers`."""
        chosen = np.asarray(numbers, np.int64)
        if len(chosen) == len(self) and (chosen == np.arange(len(self))).all():
            return self
        return Rows(self.table.take(chosen), self._origin)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as Parquet; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [(name, pa.list_(pa.string()) if name == "labels" else pa.string()) for name in _NAMES]
    )
    with pq.ParquetWriter(path, schema, compression="zstd") as writer:
        for start in range(0, len(rows), GROUP):
            some = rows[start : start + GROUP]
            writer.write_table(
                pa.table([[_plain(getattr(row, name)) for row in some] for name in _NAMES], schema=schema)
            )


def read_rows(path: Path) -> Rows:
    """Read what `write_rows` wrote."""
    import pyarrow.parquet as pq

    return Rows(pq.ParquetFile(path).read())


def as_found(rows: Rows, origin: str | None) -> Rows:
    """The same rows with the paths that people know, for messages and lists: below `origin` where there is one."""
    return rows if origin is None else Rows(rows.table, origin)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
