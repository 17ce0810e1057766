"""The journal of a training: one JSON line per entry, appended while it runs, read by whoever draws curves.

A line is `{"step": int, "epoch": float, "values": {name: number}, "time": unix seconds}`. The writer keeps all lines in memory
and in its checkpoints; the file is for those who look on. A resumed training, or one that went back, rewrites the file from the
checkpoint's copy, so it has no gap and no double step, and a damaged or missing file changes nothing.
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
        path: The file; None keeps no journal (every rank but the first).
        text: What was written up to the checkpoint; empty starts afresh.
    """

    def __init__(self, path: Path | None, text: str = "") -> None:
        self.path = path
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
        self.restart(text)

    def restart(self, text: str) -> None:
        """Go on from an earlier journal; what was written since is dropped."""
        self.text = text
        if self.path is not None:
            # A new file, not an emptied one: who reads along sees that it starts over.
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
    """The entries of a journal; a half-written last line is left out."""
    entries = []
    for line in text.splitlines():
        try:
            entries.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return entries


def read(path: Path) -> list[Entry]:
    """The entries of a journal's file."""
    return parse(path.read_text(encoding="utf-8")) if path.is_file() else []


def write_curves(entries: Sequence[Entry], target: Path) -> None:
    """A journal as a CSV of step, epoch, name and value: what is the same in every run, so without times and speeds."""
    with target.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["step", "epoch", "name", "value"])
        for entry in entries:
            for name, value in entry["values"].items():
                if not name.startswith("speed/"):
                    table.writerow([entry["step"], entry["epoch"], name, repr(value)])
