"""The journal of a training: one JSON line per entry, appended while it runs, read by whoever draws curves.

A line is `{"step": int, "epoch": float, "values": {name: number}, "time": unix seconds}`. A resumed training first cuts off
what was written after its checkpoint, so the journal has no gap and no double step.
"""

import csv
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """A journal that is being written.

    Args:
        path: The file; None keeps no journal (every rank but the first).
        step: The last step that stays; later lines are cut off. 0 starts afresh.
    """

    def __init__(self, path: Path | None, *, step: int = 0) -> None:
        self.path = path
        if path is None:
            return
        path.parent.mkdir(parents=True, exist_ok=True)
        kept = [entry for entry in read(path) if entry["step"] <= step] if step else []
        path.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")

    def write(self, step: int, epoch: float, values: Mapping[str, float]) -> None:
        """Append an entry."""
        if self.path is None:
            return
        entry = {"step": step, "epoch": round(epoch, 4), "values": dict(values), "time": time.time()}
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(entry) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """The entries of a journal; a half-written last line is left out."""
    entries = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entries.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return entries


def write_curves(journal: Path, target: Path) -> None:
    """The journal as a CSV of step, epoch, name and value: what is the same in every run, so without times and speeds."""
    with target.open("w", newline="", encoding="utf-8") as stream:
        table = csv.writer(stream)
        table.writerow(["step", "epoch", "name", "value"])
        for entry in read(journal):
            for name, value in entry["values"].items():
                if not name.startswith("speed/"):
                    table.writerow([entry["step"], entry["epoch"], name, repr(value)])
