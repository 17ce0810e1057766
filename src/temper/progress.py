"""Show progress and the time left: a bar on a terminal, a line every ten seconds in a log."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

T = TypeVar("T")
_LOG_EVERY_S = 10.0


class Bar:
    """Progress of a known number of steps; use as a context manager and call `advance`.

    Args:
        what: Short label, e.g. `train`.
        total: Number of steps.
    """

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total, self.done, self.note = what, total, 0, ""
        self._started = self._logged = time.monotonic()
        self._skipped = 0
        self._rich: Progress | None = None
        if sys.stderr.isatty():
            columns = (
                TextColumn("{task.description:<12}", markup=False),
                BarColumn(),
                MofNCompleteColumn(),
                TimeRemainingColumn(),
            )
            from rich.console import Console

            self._rich = Progress(
                *columns, TextColumn("{task.fields[note]}", markup=False), console=Console(stderr=True)
            )

    def __enter__(self) -> "Bar":
        if self._rich:
            self._rich.start()
            self._task = self._rich.add_task(self.what, total=self.total, note="")
        return self

    def __exit__(self, *_: object) -> None:
        if self._rich:
            self._rich.stop()

    def skip(self, steps: int) -> None:
        """Count steps that a run did before it was resumed. They do not count in the speed."""
        self._skipped += steps
        self.done += steps
        if self._rich:
            self._rich.update(self._task, completed=self.done)

    def advance(self, steps: int = 1, note: str | None = None) -> None:
        """Count finished steps. `note` is shown beside the bar until the next note."""
        self.done += steps
        self.note = self.note if note is None else note
        if self._rich:
            self._rich.update(self._task, completed=self.done, note=self.note)
            return
        now = time.monotonic()
        if now - self._logged >= _LOG_EVERY_S:
            self._logged = now
            fresh = max(self.done - self._skipped, 1)
            left = (self.total - self.done) * (now - self._started) / fresh
            print(
                f"{self.what}: {self.done}/{self.total}, {left:.0f} s left {self.note}",
                file=sys.stderr,
                flush=True,
            )


def track(items: Iterable[T], what: str, total: int) -> Iterator[T]:
    """Yield the items and show the progress."""
    with Bar(what, total) as bar:
        for item in items:
            yield item
            bar.advance()
