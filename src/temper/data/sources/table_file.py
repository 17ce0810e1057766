"""Reads a CSV, TSV or Parquet file as columns, and finds out how a CSV file is written."""

import csv
import io
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temper.data.remark import Remark

ENDINGS = (".csv", ".tsv", ".parquet")
"""Endings of the files that can be read."""
_SEPARATORS = {",": "a comma", ";": "a semicolon", "\t": "a tab", "|": "`|`"}
_MARKS = {
    b"\xef\xbb\xbf": "utf-8-sig",
    b"\xff\xfe": "utf-16",
    b"\xfe\xff": "utf-16",
}
"""First bytes of a text file -> its encoding."""


@dataclass(frozen=True)
class Columns:
    """The content of a table."""

    cells: dict[str, list[Any]]
    """Name of the column -> its cells."""
    remarks: tuple[Remark, ...] = ()


@dataclass(frozen=True)
class Text:
    """A CSV or TSV file, and how it is written."""

    encoding: str
    """`utf-8`, `utf-8-sig` or `utf-16`; the latter two begin with a byte order mark."""
    content: str
    """Everything in the file but this mark."""
    start: int
    """Number of characters before the header."""
    separator: str
    lines: list[list[str]]
    """The cells of each line, those of the header first. Empty lines are left out."""
    remarks: tuple[Remark, ...] = ()


def read_columns(file: Path, separator: str | None = None, content: bytes | None = None) -> Columns:
    """Read a table.

    Args:
        file: The table.
        separator: Character between the cells of a CSV file; None to find it out.
        content: What is read instead of the file's content.

    Raises:
        ValueError: If the file is not a table, has no rows, or has two columns of one name.
    """
    if is_parquet(file):
        found = Columns(read_parquet(file, content).to_pydict())
    elif file.suffix.lower() in ENDINGS:
        found = _columns_of(file, read_text(file, separator, content))
    else:
        raise ValueError(
            f"{file.name!r} ends in {file.suffix!r}; a table must be a .csv, .tsv or .parquet file"
        )
    if not found.cells or not next(iter(found.cells.values())):
        raise ValueError(f"{file} has no rows; a table needs a header and one row per image")
    return found


def is_parquet(file: Path) -> bool:
    """Return whether a file's ending says that it is a Parquet file."""
    return file.suffix.lower() == ".parquet"


def read_parquet(file: Path, content: bytes | None = None) -> Any:
    """Return a Parquet file, or `content` in its place, as an Arrow table.

    Raises:
        ValueError: If it is no Parquet file, is damaged, or has two columns of one name.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(file if content is None else pa.BufferReader(content))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{file} is not a Parquet file, or damaged: {error}") from error
    _check_names(file, table.column_names)
    return table


def read_text(file: Path, separator: str | None = None, content: bytes | None = None) -> Text:
    """Read a CSV or TSV file, and find out how it is written.

    Args:
        file: The file.
        separator: Character between the cells; None to find it out.
        content: What is read instead of the file's content.

    Raises:
        ValueError: If it is no text in UTF-8 or UTF-16, or a line has more or fewer cells than the header.
    """
    separator = separator or ("\t" if file.suffix.lower() == ".tsv" else None)
    content, remarks = file.read_bytes() if content is None else content, []
    if content.startswith(b"PK\x03\x04"):
        raise ValueError(f"{file} is an Excel workbook or a zip archive; save it as CSV")
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    if encoding == "utf-16":
        remarks.append(Remark("converted", f"{file.name} is written in UTF-16"))
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise ValueError(
            f"{file} is not written in UTF-8 (line {line} has the byte {content[error.start]:#04x}); save it "
            "as UTF-8"
        ) from error
    if "\0" in text:
        raise ValueError(f"{file} contains bytes that are no text; a table must be a text or Parquet file")
    whole = text
    text, comments = _without_comments(text)
    if comments:
        remarks.append(Remark("left out", f"{comments} lines at the beginning of {file.name} begin with #"))
    first, _, rest = text.partition("\n")
    if separator is None and first.strip().strip('"').lower().startswith("sep=") and len(first.strip()) < 8:
        separator, text = first.strip().strip('"')[4:5] or None, rest  # as Excel writes it
    lines = None if separator else _guess(text)
    if lines is not None and lines[0] != ",":
        remarks.append(
            Remark("guessed", f"{_SEPARATORS[lines[0]]} separates the cells of {file.name}; ingest.separator")
        )
    parsed = _parse(file, text, separator or ",") if lines is None else lines[1]
    for number, cells in enumerate(parsed[1:], 1):
        if len(cells) != len(parsed[0]):
            other = "" if separator else "; if another character separates cells, set ingest.separator"
            raise ValueError(
                f"{file} row {number} has {len(cells)} cells, but the header has {len(parsed[0])}; "
                f"correct it{other}"
            )
    found = lines[0] if lines else separator or ","
    return Text(encoding, whole, len(whole) - len(text), found, parsed, tuple(remarks))


def _columns_of(file: Path, text: Text) -> Columns:
    """Return the columns of a CSV or TSV file.

    Raises:
        ValueError: If two columns have one name.
    """
    header = [name.strip() for name in text.lines[0]] if text.lines else []
    _check_names(file, header)
    return Columns(
        {name: [line[i] for line in text.lines[1:]] for i, name in enumerate(header)}, text.remarks
    )


def _without_comments(text: str) -> tuple[str, int]:
    """Return a text without its first lines that begin with #, and their number. A header may do so, too."""
    number = 0
    while text.startswith("#"):
        first, _, rest = text.partition("\n")
        counts = [first.count(each) for each in _SEPARATORS]
        if any(counts) and counts == [rest.partition("\n")[0].count(each) for each in _SEPARATORS]:
            return text[1:].lstrip(" "), number
        text, number = rest, number + 1
    return text, number


def _parse(file: Path, text: str, separator: str) -> list[list[str]]:
    csv.field_size_limit(sys.maxsize)
    try:
        reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
        return [line for line in reader if line]
    except csv.Error as error:
        raise ValueError(f"{file} is not a CSV file: {error}") from error


def _guess(text: str) -> tuple[str, list[list[str]]] | None:
    """Return the separator that gives all lines equally many cells, at least two, and the cells; or None.

    The comma wins if it does so itself.
    """
    for separator in _SEPARATORS:
        if separator not in text.partition("\n")[0]:
            continue
        try:
            lines = _parse(Path(), text, separator)
        except ValueError:
            continue
        if len(lines) > 1 and len(lines[0]) > 1 and len({len(line) for line in lines}) == 1:
            return separator, lines
    return None


def _check_names(file: Path, names: list[str]) -> None:
    for name, count in Counter(names).items():
        if count > 1 and name:
            raise ValueError(f"{file} has {count} columns called {name!r}; rename or remove one of them")
