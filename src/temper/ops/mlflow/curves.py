"""A training's curves on their way to MLflow: the journal is followed while it grows, and no point is sent twice.

A stage's journal (`.temper/work/<stage>/journal.jsonl`) may be there from an earlier run, be cut back by a resumed one, or
be started afresh. So: a journal counts only once it differs from what lay there before the stage was started; then all of
it counts, what a resumed training kept included; and a point is its name and step, whatever was sent before.
"""

import csv
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

POLL_S = 1.0


@dataclass(frozen=True)
class Point:
    """One value of a curve."""

    name: str
    step: int
    value: float
    time_ms: int | None
    """When it was measured; None where nobody wrote it down."""


class Curve:
    """The points of one training that were sent already.

    Args:
        send: Takes new points, in the order of their steps.
    """

    def __init__(self, send: Callable[[list[Point]], None]) -> None:
        self._send = send
        self._sent: set[tuple[str, int]] = set()

    def add(self, points: list[Point]) -> None:
        """Send the points that were not sent before."""
        fresh = {
            (point.name, point.step): point for point in points if (point.name, point.step) not in self._sent
        }
        if fresh:
            self._send(list(fresh.values()))
            self._sent |= fresh.keys()


class Tail:
    """Reads what was added to a journal since the last look.

    Args:
        path: The journal; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._position, self._inode = path, 0, 0
        self._before: tuple[int, int, int] | None = self._look()

    def read(self) -> list[Point]:
        """New points; a half-written last line waits for the next look."""
        found = self._look()
        if found is None or found == self._before:
            return []
        self._before = None
        inode, size, _ = found
        if inode != self._inode or size < self._position:
            self._inode, self._position = inode, 0
        with self._path.open("rb") as stream:
            stream.seek(self._position)
            data = stream.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._position += len(whole)
        return [point for line in whole.splitlines() for point in _points(line)]

    def _look(self) -> tuple[int, int, int] | None:
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return None
        return found.st_ino, found.st_size, found.st_mtime_ns


@contextmanager
def follow(path: Path, add: Callable[[list[Point]], None]) -> Iterator[None]:
    """Hand a journal's points to `add`, from another thread, while the body runs, and the rest at its end.

    A failure to send never disturbs the body (a finished training must not be lost to a locked database); it is raised at
    the end, after the body's own exception if there is one.
    """
    tail, done = Tail(path), threading.Event()
    failure: list[Exception] = []

    def watch() -> None:
        while not failure:
            last = done.wait(POLL_S)
            try:
                if points := tail.read():
                    add(points)
            except Exception as error:  # whatever it is, it belongs to the caller's thread
                failure.append(error)
            if last:
                return

    thread = threading.Thread(target=watch, name="journal", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    if failure:
        raise failure[0]


def read_curves(path: Path) -> list[Point]:
    """The points of a curves.csv (columns step, name, value)."""
    with path.open(newline="", encoding="utf-8") as stream:
        return [
            Point(row["name"], int(row["step"]), float(row["value"]), None) for row in csv.DictReader(stream)
        ]


def _points(line: bytes) -> list[Point]:
    try:
        entry = json.loads(line)
        time_ms = round(entry["time"] * 1000)
        return [
            Point(name, int(entry["step"]), float(value), time_ms) for name, value in entry["values"].items()
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []  # damaged, or being rewritten under us: training writes it anew, and the next look starts over
