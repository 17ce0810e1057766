"""A Prefect server for the length of a run: bound to 127.0.0.1, on the project's own database, without its web pages.

Prefect would start one itself (its "ephemeral" server), but only when the flow asks for it, with 20 s to make its database
in (a slow machine needs more), and in our process group, so that Ctrl-C ends it before the run's last state is recorded.
Started here it makes its database while MLflow is being imported. `make ui` starts the one with pages (`ui.py`).
"""

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

from tasks import terminal
from tasks.project import Project

START_S = 180.0
"""The first start makes the database: 11 s on a quiet machine with two cores."""
_DRAIN_S = 10.0


class Server:
    """A Prefect server that is starting up.

    Args:
        project: Whose database it opens.
    """

    def __init__(self, project: Project) -> None:
        self._log = project.hidden / "prefect-server.log"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        arguments = [
            "--factory",
            "prefect.server.api.server:create_app",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        # Marked ephemeral and final, as Prefect marks its own: no background services, no writing of settings.
        marks = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "0"}
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "uvicorn", *arguments, "--log-level", "error", "--lifespan", "on"],
                env={**project.child_environment(), **marks},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    @property
    def url(self) -> str:
        """Address of its interface for programs."""
        return f"http://127.0.0.1:{self.port}/api"

    def wait(self, timeout_s: float = START_S) -> None:
        """Return when it answers.

        Raises:
            ValueError: If it ends or does not answer in time; names its log.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if self._process.poll() is not None:
                raise ValueError(f"Prefect's server ended with status {self._process.returncode}; see {self._log}")
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    return
            except (urllib.error.URLError, TimeoutError):
                time.sleep(0.1)
        raise ValueError(f"Prefect's server did not answer within {timeout_s:.0f} s; see {self._log}")

    def stop(self) -> None:
        """End it."""
        terminal.end_tree(self._process.pid, grace_s=5.0)
        self._process.wait()


@contextmanager
def serve(project: Project) -> Iterator[Server]:
    """A server that is starting; Prefect in this process will talk to it. Import Prefect only inside."""
    server = Server(project)
    os.environ["PREFECT_API_URL"] = server.url
    try:
        yield server
    finally:
        _flush()
        os.environ.pop("PREFECT_API_URL", None)
        server.stop()


def _flush() -> None:
    """Send what Prefect still holds back, logs and events (its task runs are events), while there is someone to take it."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=_DRAIN_S)
        EventsWorker.drain_all(timeout=_DRAIN_S)
