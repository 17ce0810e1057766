"""The readable table of examples that ingest leaves: one line per picture, before anything was decoded."""

from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path, PurePosixPath

from temper.problem import Row

FILE = "rows.parquet"


def write_rows(rows: Sequence[Row], path: Path) -> None:
    """Write rows as Parquet; equal rows give equal bytes."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"labels": pa.list_(pa.string())}
    columns = {
        item.name: pa.array([_plain(getattr(row, item.name)) for row in rows], kinds.get(item.name, pa.string()))
        for item in fields(Row)
    }
    pq.write_table(pa.table(columns), path, compression="zstd")


def read_rows(path: Path) -> list[Row]:
    """Read what `write_rows` wrote."""
    import pyarrow.parquet as pq

    table = pq.ParquetFile(path).read()
    columns = [table.column(item.name).to_pylist() for item in fields(Row)]
    names = [item.name for item in fields(Row)]
    labels = names.index("labels")
    columns[labels] = [tuple(value) for value in columns[labels]]
    return [Row(**dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def as_found(rows: Sequence[Row], origin: str | None) -> Sequence[Row]:
    """The same rows with the paths that people know, for messages and lists: below `origin` where there is one."""
    if origin is None:
        return rows
    return [replace(row, path=str(PurePosixPath(origin) / row.id)) for row in rows]


def _plain(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value
