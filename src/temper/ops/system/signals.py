"""The ways to end a run from outside: Ctrl-C, SIGTERM, a closed terminal, and Cancel in Prefect's pages.

All of them raise KeyboardInterrupt in the main thread. `subprocesses.run` then ends the processes of the
current stage; training writes a last checkpoint first. Finally the run's records are closed.
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
    """Handle SIGTERM and SIGHUP like Ctrl-C. If SIGHUP is ignored at the start (`nohup`), it stays so."""
    for each in _STOP:
        if signal.getsignal(each) is not signal.SIG_IGN:
            signal.signal(each, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    for each in _STOP:  # a second signal must not interrupt the cleanup
        signal.signal(each, signal.SIG_IGN)
    if number == signal.SIGHUP:
        _discard_output()
    raise KeyboardInterrupt


def _discard_output() -> None:
    """Send all output to /dev/null: the terminal is closed, and writing to it would fail in the cleanup."""
    null = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(null, stream)
    os.close(null)


class Cancellation:
    """Watches whether a user cancels a flow run in Prefect's pages."""

    def __init__(self, url: str, flow_run: str) -> None:
        self.asked = False
        self._flow_run = f"{url}/flow_runs/{flow_run}"

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Interrupt this process if the flow run is cancelled while the body runs."""
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
                continue  # the server is being restarted
            if state in ("CANCELLING", "CANCELLED"):
                self.asked = True
                os.kill(os.getpid(), signal.SIGINT)
                return

    def confirm(self) -> None:
        """Set the run's state in Prefect to cancelled; Prefect's engine would set it to crashed."""
        state = {"state": {"type": "CANCELLED", "message": "cancelled in Prefect"}, "force": True}
        request = urllib.request.Request(
            f"{self._flow_run}/set_state", json.dumps(state).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=10):
            return
