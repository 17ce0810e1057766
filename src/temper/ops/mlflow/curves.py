"""Sends the curves of a training to MLflow: follows the journal while it grows, and sends no point twice.

A stage's journal (`.temper/work/<stage>/journal.jsonl`) may be left over from an earlier run, may be
truncated by a resumed training, or may be started from scratch. A journal therefore counts only once it
differs from the file that existed before the stage started. Then all of it counts, including the part that a
resumed training kept. The name and the step identify a point, whatever was sent before.
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
    """Unix time of the measurement in milliseconds; None if it was not recorded."""


class Curve:
    """Sends the points of one training, each of them once.

    Args:
        send: Receives new points, in the order of their steps.
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
    """Reads what was added to a journal since the last read.

    Args:
        path: Path of the journal, which need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._position, self._inode = path, 0, 0
        self._before: tuple[int, int, int] | None = self._look()

    def read(self) -> list[Point]:
        """Return the new points. A half-written last line is left for the next read."""
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
    """Pass a journal's points to `add` from another thread while the body runs, and the rest when it ends.

    A failure to send never disturbs the body, since a locked database must not cost a finished training. The
    failure is raised when the body has ended, unless the body raises an exception itself.
    """
    tail, done = Tail(path), threading.Event()
    failure: list[Exception] = []

    def watch() -> None:
        while not failure:
            last = done.wait(POLL_S)
            try:
                if points := tail.read():
                    add(points)
            except Exception as error:  # of any kind: the caller's thread raises it
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
    """Return the points of a curves.csv (columns step, name, value)."""
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
        return []  # damaged or just being rewritten: training rewrites it, and the next read starts over
