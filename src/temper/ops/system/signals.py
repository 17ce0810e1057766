"""What ends a run from outside: Ctrl-C, SIGTERM, a closed terminal, and Cancel in Prefect's pages. All raise KeyboardInterrupt in the main thread.

The processes of the stage that runs are then ended by `terminal.run`, training after a last checkpoint, and the records are closed.
"""

import json
import os
import signal
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_POLL_S = 1.5
_STOP = (signal.SIGTERM, signal.SIGHUP)


def listen() -> None:
    """Take SIGTERM and SIGHUP for Ctrl-C. A SIGHUP that was ignored from the start (`nohup`) stays ignored."""
    for each in _STOP:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in _STOP:  # once is enough: a second one must not break off the clearing up
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGHUP:
        _silence()
    raise KeyboardInterrupt


def _silence() -> None:
    """The terminal is gone: writing to it would fail in the midst of the clearing up."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    os.close(nowhere)


class Cancellation:
    """Whether somebody cancelled a flow run in Prefect's pages."""

    def __init__(self, url: str, flow_run: str) -> None:
        self.asked = False
        self._flow_run = f"{url}/flow_runs/{flow_run}"

    @contextmanager
    def watch(self) -> Iterator[None]:
        """While the body runs, a cancel there interrupts it here."""
        done = threading.Event()
        thread = threading.Thread(target=self._poll, args=(done.wait,), name="cancellation", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()

    def _poll(self, wait: Callable[[float], bool]) -> None:
        while not wait(_POLL_S):
            try:
                with urllib.request.urlopen(self._flow_run, timeout=5) as answer:
                    state = json.load(answer)["state_type"]
            except (OSError, ValueError):
                continue  # the server is being started again
            if state in ("CANCELLING", "CANCELLED"):
                self.asked = True
                os.kill(os.getpid(), signal.SIGINT)
                return

    def confirm(self) -> None:
        """Say in Prefect that the run is cancelled: the engine would call it crashed."""
        state = {"state": {"type": "CANCELLED", "message": "cancelled in Prefect"}, "force": True}
        request = urllib.request.Request(
            f"{self._flow_run}/set_state", json.dumps(state).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):
            return
