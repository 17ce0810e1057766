"""Writes a table again with more or fewer rows; the rest of it, and its format, stay as they are."""

import csv
import io
import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from temper.data.sources.cell_text import text_of
from temper.data.sources.table_file import Text, is_parquet, read_parquet, read_text

_LAST = 20
"""Number of the last rows that show which columns are quoted."""


class Writer(Protocol):
    """A table that is written again."""

    columns: Sequence[str]
    """Names of the columns; several may have no name."""

    def fit(self, row: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cells of a new row as they can be written, without those of other columns.

        Args:
            row: Column -> cell, as read from any table; a tuple of labels becomes a list, or is joined.

        Raises:
            ValueError: If a column cannot contain its cell.
        """

    def append(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        """Return the content with further rows, made by `fit`. Cells that a row does not have are empty."""

    def select(self, numbers: Iterable[int], changed: Mapping[str, Sequence[str]] = {}) -> bytes:
        """Return the content with some of the rows only.

        Args:
            numbers: Numbers of the rows, in order.
            changed: Column -> the new cells of these rows.
        """


def open_table(file: Path, content: bytes, separator: str | None, joint: str) -> Writer:
    """Read a table that is to be written again.

    Args:
        file: The table.
        content: Its content.
        separator: Character between the cells of a CSV file; None to find it out.
        joint: Text that joins labels in a cell.
    """
    if is_parquet(file):
        return _ParquetWriter(file, content, joint)
    return _TextWriter(read_text(file, separator, content), content[:2], joint)


class _TextWriter:
    """A CSV or TSV file."""

    def __init__(self, text: Text, mark: bytes, joint: str) -> None:
        self._text, self._mark, self._joint = text, mark, joint
        self.columns: Sequence[str] = [name.strip() for name in text.lines[0]]
        records = _records(text)
        head = next(records)[1]
        self._end = head[len(head.rstrip("\r\n")) :] or "\n"
        last = deque(records, _LAST)
        self._quoted = [
            any(flags) for flags in zip(*(_find_quotes(*each, text.separator) for each in last), strict=True)
        ] or [False] * len(self.columns)

    def fit(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._cell(row[name]) for name in self.columns if name in row}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        content = self._text.content
        ended = content.endswith(("\n", "\r"))
        lines = [self._format([row.get(name, "") for name in self.columns], self._quoted) for row in rows]
        added = self._end.join(lines) + (self._end if ended else "")
        return self._encode(content + ("" if ended else self._end) + added)

    def select(self, numbers: Iterable[int], changed: Mapping[str, Sequence[str]] = {}) -> bytes:
        records = list(_records(self._text))
        kept = [self._text.content[: self._text.start], records[0][1]]
        for place, number in enumerate(numbers):
            cells, raw = records[number + 1]
            if changed:
                cells = [
                    changed[name][place] if name in changed else cell
                    for name, cell in zip(self.columns, cells, strict=True)
                ]
                raw = self._format(cells, self._quoted)
            kept.append(raw.rstrip("\r\n") + self._end)
        return self._encode("".join(kept))

    def _cell(self, value: Any) -> str:
        if isinstance(value, tuple | list):
            return self._joint.join(map(text_of, value))
        return "" if _is_nan(value) else text_of(value)

    def _format(self, cells: Sequence[str], quoted: Sequence[bool]) -> str:
        """Return a line without its end."""
        special = (self._text.separator, '"', "\r", "\n")
        return self._text.separator.join(
            '"' + cell.replace('"', '""') + '"' if quote or any(each in cell for each in special) else cell
            for cell, quote in zip(cells, quoted, strict=True)
        )

    def _encode(self, content: str) -> bytes:
        if self._text.encoding != "utf-16":
            return content.encode(self._text.encoding)
        return self._mark + content.encode("utf-16-le" if self._mark == b"\xff\xfe" else "utf-16-be")


def _records(text: Text) -> Iterator[tuple[list[str], str]]:
    """Yield the cells of each line, those of the header first, and the line as it is written."""
    lines: list[str] = []

    def read() -> Iterator[str]:
        for line in io.StringIO(text.content[text.start :], newline=""):
            lines.append(line)
            yield line

    for cells in csv.reader(read(), delimiter=text.separator, strict=True):
        if cells:
            yield cells, "".join(lines)
        lines.clear()


def _find_quotes(cells: Sequence[str], raw: str, separator: str) -> list[bool]:
    """Return which cells of a line are quoted, though they would not have to be.

    Example:
        >>> _find_quotes(["a", "b,c", "d"], 'a,"b,c","d"', ",")
        [False, False, True]
    """
    special = (separator, '"', "\r", "\n")
    found, place = [], 0
    for cell in cells:
        quoted = raw.startswith('"', place)
        found.append(quoted and bool(cell) and not any(each in cell for each in special))
        place += len(cell) + (2 + cell.count('"') if quoted else 0) + 1
    return found


class _ParquetWriter:
    """A Parquet file."""

    def __init__(self, file: Path, content: bytes, joint: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self._file, self._joint, self._table = file, joint, read_parquet(file, content)
        self.columns: Sequence[str] = self._table.column_names
        name = pq.read_metadata(pa.BufferReader(content)).row_group(0).column(0).compression
        self._compression = "NONE" if name == "UNCOMPRESSED" else name

    def fit(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: self._cell(name, row.get(name)) for name in self.columns}

    def append(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        import pyarrow as pa

        schema = self._table.schema
        arrays = [pa.array([row.get(each.name) for row in rows], each.type) for each in schema]
        return self._write(pa.concat_tables([self._table, pa.table(arrays, schema=schema)]))

    def select(self, numbers: Iterable[int], changed: Mapping[str, Sequence[str]] = {}) -> bytes:
        import pyarrow as pa

        table = self._table.take(pa.array(numbers, pa.int64()))
        for name, cells in changed.items():
            place = table.schema.get_field_index(name)
            found = table.schema.field(place)
            table = table.set_column(place, found, pa.array(cells, found.type))
        return self._write(table)

    def _cell(self, name: str, value: Any) -> Any:
        """Return a cell as a value of its column's type; None if it is empty."""
        import pyarrow as pa

        kind = self._table.schema.field(name).type
        is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
        if isinstance(value, tuple):
            value = list(value) if is_list else self._joint.join(value)
        if not isinstance(value, list) and (_is_nan(value) or not text_of(value)):
            if not self._table.schema.field(name).nullable:
                raise ValueError(
                    f"the column {name!r} of {self._file.name} must not be empty; add it, with a cell in "
                    "each row"
                )
            return None
        inner = kind.value_type if pa.types.is_dictionary(kind) else kind
        if pa.types.is_string(inner) or pa.types.is_large_string(inner):
            return text_of(value)
        for given in _ways_to_write(value):
            try:
                return pa.array([given]).cast(inner)[0].as_py()
            except (pa.ArrowException, TypeError):
                continue
        raise ValueError(
            f"the column {name!r} of {self._file.name} contains {inner}, and {text_of(value)!r} is none; "
            "correct the cell"
        )

    def _write(self, table: Any) -> bytes:
        import pyarrow.parquet as pq

        stream = io.BytesIO()
        pq.write_table(table.unify_dictionaries(), stream, compression=self._compression)
        return stream.getvalue()


def _ways_to_write(value: Any) -> Iterator[Any]:
    """Yield a cell, and if it is a text, the number in it: Arrow does not take `3.0` for a whole number."""
    yield text_of(value) if isinstance(value, str) else value
    try:
        yield float(value)
    except (TypeError, ValueError):
        return


def _is_nan(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))
