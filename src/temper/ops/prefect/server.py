"""A Prefect server that runs as long as a flow.

It listens on 127.0.0.1, uses the project's own database, and has no web pages.

Prefect would start a server itself (its "ephemeral" server), but only when the flow first needs it. It would
allow 20 s to create the database, and a slow machine needs more. It would also run in our process group, so
that Ctrl-C ends it before the run's final state is recorded. Started here, the server creates its database
while MLflow is being imported. `make ui` starts the server with pages (`ui.py`).

If the server dies during a run, it is restarted at the same address; Prefect's client retries for about a
minute. Nothing depends on the history in its database: a damaged database is moved away, which
is printed.
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
"""Environment variable with the address of a server that already runs for this project (`make schedule`)."""
START_S = 180.0
"""Seconds to wait for a start. The first one creates the database: 11 s on a quiet machine with two cores."""
_DRAIN_S = 5.0
_RESTARTS = 4


class Server:
    """A Prefect server that is starting, and is restarted if it dies.

    Args:
        project: Project whose database the server opens.
        port: Port on which it listens; None takes any free port.
        services: Run the web pages and the scheduler, too.
    """

    def __init__(self, project: Project, *, port: int | None = None, services: bool = False) -> None:
        self._project, self._services = project, services
        project.hidden.mkdir(parents=True, exist_ok=True)
        self._log = project.hidden / "prefect-server.log"
        self._log.write_bytes(b"")
        self._database = project.prefect_home / "prefect.db"
        if found := sqlite.damage(self._database):
            self._move_database_away(found)
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                free.bind(("127.0.0.1", port or 0))
            except OSError:
                raise ValueError(
                    f"port {port} is in use; stop the process that listens there, "
                    f"perhaps `{project.make('ui')}`"
                ) from None
            self.port = free.getsockname()[1]
        self._answered, self._stopping = threading.Event(), threading.Event()
        self.died = False
        """Whether the server had to be restarted and may have missed events."""
        self._process = self._start()
        self._supervisor = threading.Thread(target=self._supervise, name="prefect server", daemon=True)
        self._supervisor.start()

    def _start(self) -> "subprocess.Popen[bytes]":
        arguments = [
            "--factory",
            "prefect.server.api.server:create_app",
            "--host",
            "127.0.0.1",
            "--port",
            str(self.port),
        ]
        # Prefect marks its own server as ephemeral and final, too: no background services, no saved settings.
        marks = {"PREFECT__SERVER_EPHEMERAL": "1", "PREFECT__SERVER_FINAL": "1", "PREFECT_UI_ENABLED": "0"}
        environment = self._project.child_environment()
        if self._services:
            address = f"http://127.0.0.1:{self.port}/api"
            marks = {
                "PREFECT__SERVER_FINAL": "1",
                "PREFECT_UI_API_URL": address,
                "PREFECT_SERVER_UI_API_URL": address,
            }
            # Without the project's mark: this server runs beside the project's runs, holds no lock, and none
            # of the runs may end it as an orphan.
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

    def _supervise(self) -> None:
        """Restart the server when it dies.

        The thread that starts a server must outlive it: the kernel ends a child when its parent thread ends.
        """
        for _ in range(_RESTARTS):
            self._process.wait()
            if self._stopping.is_set():
                return
            if self._answered.is_set():
                self.died = True
                print("Prefect's server died and is being restarted", file=sys.stderr, flush=True)
            elif self._database.is_file():
                self._move_database_away(f"the server ended with status {self._process.returncode}")
            self._process = self._start()
        self._process.wait()

    def _move_database_away(self, why: str) -> None:
        target = sqlite.move_away(self._database)
        print(
            f"{self._database} is unusable ({why}) and has been moved to {target.name}; "
            "Prefect's history starts empty",
            file=sys.stderr,
        )

    @property
    def url(self) -> str:
        """Address of the server's API."""
        return f"http://127.0.0.1:{self.port}/api"

    def wait(self, timeout_s: float = START_S) -> None:
        """Wait until the server answers.

        Raises:
            ValueError: If the server ends or does not answer in time; names its log.
        """
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            if not self._supervisor.is_alive():
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
        """End the server."""
        self._stopping.set()
        subprocesses.end_tree(self._process.pid, grace_s=3.0)
        self._supervisor.join(timeout=5.0)


@dataclass(frozen=True)
class Running:
    """A server that another process started."""

    url: str
    died: bool = False

    def wait(self, timeout_s: float = START_S) -> None:
        """Do nothing, since the server answers already."""


@contextmanager
def serve(
    project: Project, *, port: int | None = None, services: bool = False
) -> "Iterator[Server | Running]":
    """Start a server, or use the one that runs already, and make Prefect in this process use it.

    Import Prefect only in the body: it reads the address when it is imported, and without an address it
    starts another server.
    """
    if "prefect" in sys.modules:
        raise AssertionError("Prefect was imported before the address of its server was set")
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
    """Send the logs and events that Prefect still buffers, while there is a server to receive them.

    Prefect's task runs are events, too.
    """
    if "prefect" in sys.modules:
        from prefect.events.worker import EventsWorker
        from prefect.logging.handlers import APILogWorker

        APILogWorker.drain_all(timeout=_DRAIN_S)
        EventsWorker.drain_all(timeout=_DRAIN_S)
