"""The journal of a training: one JSON line per entry, appended while it runs.

Programs that draw curves read it. A line is
`{"step": int, "epoch": float, "values": {name: number}, "time": unix seconds}`. The writer keeps all lines in
memory and in its checkpoints; the file is only for readers. A training that resumes or goes back rewrites the
file from the checkpoint's copy. The file therefore has no gap and no duplicate step, and a damaged or missing
file does not affect the training.
"""

import csv
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from temper.artifacts import write_atomically

Entry = dict[str, Any]


class Journal:
    """A journal that is being written.

    Args:
        path: File of the journal; None keeps no journal (every rank except the first).
        text: Text of the journal up to the checkpoint; empty for a new journal.
    """

    def __init__(self, path: Path | None, text: str = "") -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.restart(text)

    def restart(self, text: str) -> None:
        """Continue from an earlier journal; entries written since then are dropped."""
        self.text = text
        if self.path is not None:
            # A new file instead of a truncated one: a program that follows the file sees the restart.
            write_atomically(self.path, text)

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Append an entry."""
        if self.path is None:
            return
        entry = {"step": step, "epoch": round(epoch, 4), "values": dict(values), "time": time.time()}
        line = json.dumps(entry) + "\n"
        self.text += line
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(line)

    @property
    def entries(self) -> list[Entry]:
        """All entries so far."""
        return parse(self.text)


def parse(text: str) -> list[Entry]:
    """Return the entries of a journal's text; an incomplete last line is left out."""
    entries = []
    for line in text.splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries


def read(path: Path) -> list[Entry]:
    """Return the entries of a journal file; none if the file is missing."""
    return parse(path.read_text(encoding="utf-8")) if path.is_file() else []


def write_curves(entries: Sequence[Entry], target: Path) -> None:
    """Write a journal as a CSV of step, epoch, name and value.

    Times and speeds are left out, because they differ between runs.
    """
    with target.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["step", "epoch", "name", "value"])
        for entry in entries:
            for name, value in entry["values"].items():
                if not name.startswith("speed/"):
                    table.writerow([entry["step"], entry["epoch"], name, repr(value)])
