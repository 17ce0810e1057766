"""The table of examples that ingest writes: one row per image, before anything is decoded."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path, PurePosixPath
from typing import Any, final, overload

import numpy as np

from temper.problem import Row

FILE = "rows.parquet"
GROUP = 1 << 17
"""Rows of a row group in a Parquet file, the number of rows that are written and read at a time."""
_NAMES = [item.name for item in fields(Row)]


@final
class Rows(Sequence[Row]):
    """Rows stored as columns, about a hundred bytes each. A row becomes an object only when it is accessed.

    Args:
        table: Arrow table with a column per field of `Row`.
        origin: The user's folder. If it is given, paths are shown as this folder and the id, as in
            `as_found`.
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
            assert step == 1, "a slice of rows has no step"
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
        """Return some rows, in the order of `numbers`."""
        chosen = np.asarray(numbers, np.int64)
        if len(chosen) == len(self) and (chosen == np.arange(len(self))).all():
            return self
        return Rows(self.table.take(chosen), self._origin)

    def relabelled(self, names: Mapping[str, str]) -> "Rows":
        """Return the rows with some labels replaced: old name -> new name."""
        return self._with(
            "labels",
            [
                list(dict.fromkeys(names.get(label, label) for label in each))
                for each in self.table["labels"].to_pylist()
            ],
        )

    def regrouped(self, groups: Sequence[str | None]) -> "Rows":
        """Return the rows with other groups."""
        return self._with("group", groups)

    def _with(self, name: str, values: Sequence[Any]) -> "Rows":
        import pyarrow as pa

        place = self.table.schema.get_field_index(name)
        column = pa.array(values, self.table.schema.field(name).type)
        return Rows(self.table.set_column(place, name, column), self._origin)


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as Parquet. Equal rows give equal bytes."""
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
    """Read a file of `write_rows`."""
    import pyarrow.parquet as pq

    return Rows(pq.ParquetFile(path).read())


def as_found(rows: Rows, origin: str | None) -> Rows:
    """Return the same rows with the paths that the user knows: below `origin`, if it is given.

    Messages and lists show these paths.
    """
    return rows if origin is None else Rows(rows.table, origin)


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
