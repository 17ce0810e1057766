"""Takes the rows of tables in the inbox, and the files that they name, into the project's table.

A new image goes into the folder `taken` beside the project's table, its mask into `taken/masks`, and its row
is appended to the table. A row may also give a text or numbers, with or without an image. Labels are written
as the dataset spells them, and joined as it joins them.
"""

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from temper.data.intake.dropped_table import DroppedTable, file_keys, read_dropped
from temper.data.intake.grown_table import GrownTable
from temper.data.intake.new_rows import explain_new_class, find_unfit, read_labels
from temper.data.intake.offer import Arrival, Fate, Intake, Offer, Write, place_aside
from temper.data.intake.table_writing import Writer, open_table
from temper.data.source_params import Table
from temper.data.sources.table_file import ENDINGS

_ASIDE: tuple[Fate, ...] = ("known", "disputed", "unusable")


def take_in(params: Table, project: Path, offer: Offer) -> Intake:
    """Decide which rows the project's table gets, and which are put aside.

    Raises:
        ValueError: If the project's table is in the inbox, cannot be read, or would be read otherwise with
            the new rows.
    """
    way_out = "put a table with their paths and labels beside them into labelled/"
    intake = Intake("truth", ("no table of the inbox names", way_out))
    found = offer.found
    names = [name for name in found.companions if Path(name).suffix.lower() in ENDINGS]
    intake.leave("litter", [name for name in found.companions if name not in names])
    if not names and not found.files:
        return intake
    main = GrownTable(params, project, offer)
    read = [_read(name, params, project, main, offer) for name in names]
    dropped = [each for each in read if isinstance(each, DroppedTable)]
    intake.arrivals += [each for each in read if isinstance(each, Arrival)]
    _find_strange(dropped, main, offer, intake)
    for (table, number), arrival in _decide(dropped, main, offer):
        table.decided[number] = arrival
        intake.arrivals.append(arrival)
    _write(dropped, main, offer, intake)
    if len(dropped) == len(names):  # a table that was not read may name what no other one names
        named = {name for table in dropped for files in table.files for name in files}
        intake.arrivals += [
            Arrival(name, "before", files=(name,))
            if _is_left(name, main, offer)
            else Arrival(f"labelled/{name}", "unsorted")
            for name in found.files
            if name not in named
        ]
    return intake


def _is_left(name: str, main: GrownTable, offer: Offer) -> bool:
    """Return whether an interrupted run brought this very file to its place and then left it in the inbox."""
    path = offer.labelled / name
    if path.is_symlink():
        return False
    aside = place_aside(offer, name, main.contents.digest(path))
    return main.contents.holds(path) or (aside.is_file() and aside.samefile(path))


def _read(name: str, params: Table, project: Path, main: GrownTable, offer: Offer) -> DroppedTable | Arrival:
    """Return a table of the inbox, or why it stays there."""
    if offer.is_fresh(offer.labelled / name):
        return Arrival(name, "fresh")
    try:
        table = read_dropped(name, params, project, main.table, offer)
    except ValueError as error:
        return Arrival(name, "refused", reason=str(error))
    if any(offer.is_fresh(offer.labelled / each) for files in table.files for each in files):
        return Arrival(name, "fresh")
    return table


def _find_strange(dropped: Sequence[DroppedTable], main: GrownTable, offer: Offer, intake: Intake) -> None:
    """Leave rows with labels that the dataset does not have; spell the other labels as the dataset does."""
    others = {label for row in main.table.rows for label in row.labels} | {*main.params.one_hot}
    labels = read_labels([row for table in dropped for row in table.rows], others, offer)
    intake.new_class = explain_new_class(offer)
    for table in dropped:
        for number, row in enumerate(table.rows):
            if unknown := labels.unknown(row):
                table.staying.add(number)
                intake.arrivals += [Arrival(table.name_of(number), "strange", label) for label in unknown]
                continue
            intake.renamed |= labels.renamed(row)
            table.rows[number] = labels.spell(row)


def _decide(
    dropped: Sequence[DroppedTable], main: GrownTable, offer: Offer
) -> list[tuple[tuple[DroppedTable, int], Arrival]]:
    """Return what becomes of each row that does not stay."""
    places = [
        (table, number)
        for table in dropped
        for number in range(len(table.rows))
        if number not in table.staying
    ]
    if not places:
        return []
    reasons = find_unfit([table.rows[number] for table, number in places], main.table.rows, offer)
    return [
        (place, _decide_row(*place, reasons.get(number), main, offer)) for number, place in enumerate(places)
    ]


def _decide_row(
    table: DroppedTable, number: int, unusable: str | None, main: GrownTable, offer: Offer
) -> Arrival:
    """Return what becomes of a row of known classes, and add it to the project's table if it is new."""
    row, files, name = table.rows[number], table.files[number], table.name_of(number)
    paths = [offer.labelled / each for each in files]

    def put_aside(fate: Fate, reason: str) -> Arrival:
        places = [
            place_aside(offer, each, main.contents.digest(path))
            for each, path in zip(files, paths, strict=True)
        ]
        return Arrival(name, fate, table.name, reason, files, tuple(places))

    if unusable is not None:
        return put_aside("unusable", unusable)
    if (other := main.find_disputed(row, paths)) is not None:
        return put_aside("disputed", other)
    alike = main.find_alike(row, paths)
    if alike and paths and main.contents.holds(paths[0]):
        return Arrival(name, "before", table.name, files=files)
    if alike:
        return put_aside("known", f"the dataset contains it already: {alike[0]}")
    cells: dict[str, Any] = {column: cells[number] for column, cells in table.cells.items()}
    try:
        places = main.add(row, cells, paths)
    except ValueError as error:
        return put_aside("unusable", str(error))
    return Arrival(name, "new", table.name, files=files, places=places)


def _write(dropped: Sequence[DroppedTable], main: GrownTable, offer: Offer, intake: Intake) -> None:
    """Write the rows: those that are taken, those that are put aside, and those that stay in the inbox."""
    if main.num_new:
        file, count = main.params.file, main.num_new
        intake.writes.append(main.write())
        intake.notes.append(f"{file} has {count} new rows: commit it if git or DVC tracks it")
    leaving, staying, ends = set[str](), set[str](), list[Write]()
    for table in dropped:
        for number, files in enumerate(table.files):
            (leaving if number in table.decided else staying).update(files)
        if any(arrival.fate == "new" for arrival in table.decided.values()):
            intake.notes += main.explain_columns(table.name, table.cells)
        if table.decided:
            writer = open_table(table.file, table.content, table.separator, main.table.reader.joint)
            if aside := [number for number, each in sorted(table.decided.items()) if each.fate in _ASIDE]:
                intake.writes.append(_write_aside(table, aside, writer, main, offer))
            rest = writer.select(sorted(table.staying)) if table.staying else None
            ends.append(Write(table.file, rest, hashlib.sha256(table.content).hexdigest()))
    intake.writes += ends
    intake.shared = leaving & staying


def _write_aside(
    table: DroppedTable, numbers: Sequence[int], writer: Writer, main: GrownTable, offer: Offer
) -> Write:
    """Return the table of the rows that are put aside, with the new names of their files."""
    folder, names = (offer.aside / table.name).parent, main.table.reader.names
    places = [table.decided[number].places for number in numbers]
    changed = {
        column: [os.path.relpath(each[which], folder) for each in places]
        for which, key in enumerate(file_keys(main.table))
        if (column := names[key])
    }
    content = writer.select(numbers, changed)
    return Write(place_aside(offer, table.name, hashlib.sha256(content).hexdigest()), content)
