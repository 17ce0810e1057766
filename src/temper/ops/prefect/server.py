"""A Prefect server for the length of a run: bound to 127.0.0.1, on the project's own database, without its web pages.

Prefect would start one itself (its "ephemeral" server), but only when the flow asks for it, with 20 s to make its database
in (a slow machine needs more), and in our process group, so that Ctrl-C ends it before the run's last state is recorded.
Started here it makes its database while MLflow is being imported. `make ui` starts the one with pages (`ui.py`).

Should it die in mid-run it is started again at the same address; Prefect's client asks again for about a minute. Its database is a
history that nothing depends on: a damaged one is put aside, and said.
"""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from temper.ops.project import Project
from temper.ops.system import sqlite, subprocesses

URL = "TEMPER_PREFECT_URL"
"""Environment variable with the address of a server that runs already for this project (`make schedule`)."""
START_S = 180.0
"""The first start makes the database: 11 s on a quiet machine with two cores."""
_DRAIN_S = 5.0
_RESTARTS = 4


class Server:
    """A Prefect server that is starting up, and is started again if it dies.

    Args:
        project: Whose database it opens.
        port: Where it listens; None takes any that is free.
        services: With the pages, and what looks at the clock.
    """

    def __init__(self, project: Project, *, port: int | None = None, services: bool = False) -> None:
        self._project, self._services = project, services
        project.hidden.mkdir(parents=True, exist_ok=True)
        self._log = project.hidden / "prefect-server.log"
        self._log.write_bytes(b"")
        self._database = project.prefect_home / "prefect.db"
        if found := sqlite.damage(self._database):
            self._put_aside(found)
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("127.0.0.1", port or 0))
            except OSError:
                raise ValueError(
                    f"port {port} is in use; end what listens there, perhaps `make ui`"
                ) from None
            self.port = free.getsockname()[1]
        self._answered, self._stopping = threading.Event(), threading.Event()
        self.died = False
        """It had to be started again, and may not have heard everything."""
        self._process = self._start()
        self._keeper = threading.Thread(target=self._keep, name="prefect server", daemon=True)
        self._keeper.start()

    def _start(self) -> "subprocess.Popen[bytes]":
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
        environment = self._project.child_environment()
        if self._services:
            address = f"http://127.0.0.1:{self.port}/api"
            marks = {
                "PREFECT__SERVER_FINAL": "1",
                "PREFECT_UI_API_URL": address,
                "PREFECT_SERVER_UI_API_URL": address,
            }
            # It stands beside the project's runs and holds nothing: none of them may take it for one that was left over.
            environment = {**os.environ, **self._project.environment()}
        command = [sys.executable, "-m", "uvicorn", *arguments, "--log-level", "error", "--lifespan", "on"]
        with self._log.open("ab") as log:
            return subprocess.Popen(
                subprocesses.tied(command),
                env={**environment, **marks},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def _keep(self) -> None:
        """Start it again when it dies; in this thread, which must outlive it: the leash is on the thread."""
        for _ in range(_RESTARTS):
            self._process.wait()
            if self._stopping.is_set():
                return
            if self._answered.is_set():
                self.died = True
                print("Prefect's server died; starting it again", file=sys.stderr, flush=True)
            elif self._database.is_file():
                self._put_aside(f"the server ended with status {self._process.returncode}")
            self._process = self._start()
        self._process.wait()

    def _put_aside(self, why: str) -> None:
        kept = sqlite.move_away(self._database)
        print(
            f"{self._database} is unusable ({why}); kept as {kept.name}, Prefect's history begins anew",
            file=sys.stderr,
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
            if not self._keeper.is_alive():
                raise ValueError(
                    f"Prefect's server ended with status {self._process.returncode}; see {self._log}"
                )
            try:
                with urllib.request.urlopen(f"{self.url}/health", timeout=5):
                    self._answered.set()
                    return
            except (OSError, http.client.HTTPException):
                time.sleep(0.1)
        raise ValueError(f"Prefect's server did not answer within {timeout_s:.0f} s; see {self._log}")

    def stop(self) -> None:
        """End it."""
        self._stopping.set()
        subprocesses.end_tree(self._process.pid, grace_s=3.0)
        self._keeper.join(timeout=5.0)


@dataclass(frozen=True)
class Running:
    """A server that somebody else started."""

    url: str
    died: bool = False

    def wait(self, timeout_s: float = START_S) -> None:
        """It answers already."""


@contextmanager
def serve(
    project: Project, *, port: int | None = None, services: bool = False
) -> "Iterator[Server | Running]":
    """A server that is starting, or the one that runs already; Prefect in this process will talk to it. Import Prefect only inside."""
    if not services and (url := os.environ.get(URL)):
        os.environ["PREFECT_API_URL"] = url
        try:
            yield Running(url)
        finally:
            flush()
        return
    server = Server(project, port=port, services=services)
    os.environ["PREFECT_API_URL"] = server.url
    try:
        yield server
    finally:
        flush()
        os.environ.pop("PREFECT_API_URL", None)
        server.stop()


def flush() -> None:
    """Send what Prefect still holds back, logs and events (its task runs are events), while there is someone to take it."""
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=_DRAIN_S)
        EventsWorker.drain_all(timeout=_DRAIN_S)
