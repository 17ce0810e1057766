"""The rows of a table, one for each line: what its cells say about an image."""

import difflib
import html
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from temper.data.images.zip_archive import NAME
from temper.data.remark import Remark, remark_on
from temper.data.source_params import Table
from temper.data.sources.cell_text import is_empty, text_of
from temper.data.sources.given_cells import GivenCells
from temper.data.sources.joined_labels import NOT_GIVEN, USUAL, as_list, find_joint
from temper.data.sources.measured_cells import Measured
from temper.data.sources.named_files import NamedFiles
from temper.data.sources.odd_labels import find_vague, remark_on_labels
from temper.data.sources.one_hot import is_set
from temper.data.sources.split_names import SPELLINGS, split_of
from temper.problem import Row

_ENTITY = re.compile(r"&#?\w+;")


class RowReader:
    """Makes rows of a table's cells.

    Args:
        params: Parameters of the source.
        file: The table; paths are relative to its folder.
        cells: Cells of each column that is read, by the parameter of ingest that names it.
        names: Name of this column, by the same parameter; None if there is none.
    """

    def __init__(
        self, params: Table, file: Path, cells: dict[str, list[Any]], names: dict[str, str | None]
    ) -> None:
        self.names = names
        self.files = NamedFiles(file.parent.absolute())
        self.one_hot, self.measured = dict[str, list[Any]](), Measured({})
        self.given = GivenCells({})
        self._table, self._cells, self._seen = params.file, cells, set[str]()
        self._guessed = ""
        self._lists: list[str] = []
        self._not_given: list[str] = []
        self._splits = dict[bool, list[str]]()
        self._unanswered: list[str] = []
        self._found: set[str] = set()
        self._groups: dict[str, str] = {}
        self._regrouped: list[str] = []
        self._alone: list[str] = []
        self._sizes = Counter[str]()
        self._unescaped: dict[str, None] = {}
        if params.joined_by is None:
            texts = [text_of(cell) for cell in cells.get("labels", []) if not isinstance(cell, list)]
            self._guessed = find_joint(texts) or ""
        self.joint = params.joined_by or self._guessed or USUAL

    def row(self, number: int) -> Row:
        """Make the row with a number, and add the files that it names."""
        cells = {key: column[number] for key, column in self._cells.items()}
        where, mask = f"{self._table} row {number + 1}", text_of(cells.get("mask"))
        pictured = "path" in cells
        path = text_of(cells.setdefault("path", f"{Path(self._table).name} row {number + 1}"))
        if isinstance(cells["path"], dict):
            raise ValueError(
                f"{self._table} holds images themselves in the column {self.names['path']!r}; write them to "
                "files, and their paths into the table"
            )
        if path == self.names["path"]:
            raise ValueError(f"{where} repeats the header; remove the row")
        if not path:
            raise ValueError(f"{where} has no path; fill it in or remove the row")
        if "mask" in cells and not mask:
            raise ValueError(f"{where} ({path}) has no mask; fill it in or remove the row")
        split = text_of(cells.get("split"))
        if split and split_of(split) is None:
            near = difflib.get_close_matches(split.lower(), ["train", "validation", "test"], n=1, cutoff=0.7)
            hint = f" (the nearest is {near[0]!r})" if near else ""
            raise ValueError(f"{where} has split {split!r}{hint}; write {SPELLINGS}, or leave it empty")
        self._splits.setdefault(bool(split), []).append(path)
        member = self.files.add(path) if pictured else path
        if member in self._seen:
            raise ValueError(
                f"{where} lists {path} a second time; "
                "write one row per image, with several labels joined by `;`"
            )
        self._seen.add(member)
        truth, of_boxes = self.measured.row(number, f"{where} ({path})")
        return Row(
            id=path,
            path=f"{NAME}/{member}" if pictured else member,
            labels=of_boxes or self._labels(cells, number, f"{where} ({path})"),
            mask=f"{NAME}/{self.files.add(mask)}" if mask else None,
            split=split_of(split) if split else None,
            group=self._group(text_of(cells.get("group")), path),
            truth=truth,
            given=self.given.row(number, f"{where} ({path})"),
        )

    def _group(self, text: str, path: str) -> str | None:
        """Return a group. Other spellings are the same group, since splits must not divide it."""
        if text in NOT_GIVEN:
            self._alone.append(path)
        if not text or text in NOT_GIVEN:
            return None
        plain = re.sub(r"\.0*$", "", text) if re.fullmatch(r"\d+\.0*", text) else text
        name = self._groups.setdefault(" ".join(plain.casefold().split()), text)
        if name != text:
            self._regrouped.append(text)
        self._sizes[name] += 1
        return name

    def _labels(self, cells: dict[str, Any], number: int, where: str) -> tuple[str, ...]:
        if self.one_hot:
            given = {name: column[number] for name, column in self.one_hot.items()}
            if empty := [name for name, cell in given.items() if is_empty(cell)]:
                self._unanswered.append(f"{cells['path']}: {empty[0]}")
            if len(empty) == len(given):
                raise ValueError(
                    f"{where} has no 0 or 1 in the columns of ingest.one_hot; fill them in, or remove the row"
                )
            return tuple(
                unicodedata.normalize("NFC", name)
                for name, cell in given.items()
                if is_set(cell, where, name)
            )
        cell = cells.get("labels")
        if not isinstance(cell, list) and (written := as_list(text_of(cell))) is not None:
            self._lists.append(cells["path"])
            cell = written
        if isinstance(cell, list) and len(cell) > 1 and {*map(text_of, cell)} <= {"0", "1"}:
            raise ValueError(
                f"{where} has the list {cell} as labels, which looks like 0 and 1 for each class; write the "
                "names of the classes, or a column for each class (ingest.one_hot)"
            )
        values: Sequence[Any] = cell if isinstance(cell, list) else self._unescape(cell).split(self.joint)
        texts = [unicodedata.normalize("NFC", text_of(value)) for value in values]
        if not NOT_GIVEN.isdisjoint(texts):
            self._not_given.append(cells["path"])
        labels = tuple(dict.fromkeys(text for text in texts if text and text not in NOT_GIVEN))
        self._found.update(labels)
        return labels

    def _unescape(self, cell: Any) -> str:
        """Return the text of a cell whose signs may be written as in HTML: `&amp;`."""
        text = text_of(cell)
        plain = _ENTITY.sub(lambda found: html.unescape(found[0]), text)
        if plain != text:
            self._unescaped[text] = None
        return plain

    def remarks(self) -> list[Remark]:
        """Return what was guessed and converted."""
        found = []
        if self._guessed:
            shown = {" ": "a blank", ",": "a comma"}.get(self._guessed, f"`{self._guessed}`")
            found.append(
                Remark("guessed", f"{shown} joins several labels; ingest.joined_by decides otherwise")
            )
        return [
            *found,
            *self.files.remarks(),
            *remark_on("converted", "cells that are written as a list are several labels", self._lists),
            *remark_on_labels(self._found, apart="name what joins them: ingest.joined_by"),
            *self.measured.remarks(),
            *self.given.remarks(),
            *remark_on(
                "noticed",
                "rows have no split, though others have one; fill it in if they belong to one",
                self._splits.get(False, []) if len(self._splits) > 1 else [],
            ),
            *remark_on(
                "guessed",
                "rows have empty cells in the columns of ingest.one_hot, which are taken for 0; if they mean "
                "that nobody looked, fill them in or remove the rows",
                self._unanswered,
            ),
            *remark_on("converted", "labels contain signs that are written as in HTML", self._unescaped),
            *remark_on("converted", "groups of NaN mean that the image is in no group", self._alone),
            *remark_on(
                "noticed",
                "groups have a name that may mean that nothing is known, or most of the images, but are one "
                "group each, whose images stay together; if it means that, empty these cells",
                [f"{name} ({count} images)" for name, count in find_vague(self._sizes).items()],
            ),
            *remark_on("converted", "groups are written in several ways", dict.fromkeys(self._regrouped)),
            *remark_on("converted", "cells of NaN mean that there is no label", self._not_given),
        ]
