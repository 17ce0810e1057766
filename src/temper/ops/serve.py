"""`make serve`: serve the champion over HTTP on 127.0.0.1 until Ctrl-C.

The server follows the alias, so a promotion needs no restart.
"""

import fcntl
import hashlib
import math
import multiprocessing
import os
import random
import socket
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from temper import parent_death
from temper.config import Params, load
from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from temper.serving.model_follower import Follower, Place

if TYPE_CHECKING:
    from temper.serving.app import Server

ALIAS = "champion"
TOKEN = "TEMPER_SERVE_TOKEN"
"""Environment variable with the token that clients must send; if unset, every local user has access."""
_HOST = "127.0.0.1"
_PROJECT = "TEMPER_SERVE_PROJECT"
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which the server's processes share their counters."""
_EVERY_S = 1.0
_RECOUNT_S = 60.0


def place_of(project: Project, name: str) -> Place | None:
    """Return where the current champion's file is, or None if there is no champion."""
    found = model_versions.named(project, name, alias=ALIAS)
    return None if found is None else Place(found.name, found.version, found.digest, found.file)


class Sampler:
    """Stores a share of the images in the inbox, up to a total size; skips images that cannot be written.

    Args:
        folder: Folder of the inbox for images without labels.
        share: Share of the images that is stored, from 0 to 1.
        most_bytes: Largest size of the folder in bytes.
    """

    def __init__(self, folder: Path, *, share: float, most_bytes: float) -> None:
        self._folder, self._share, self._most = folder, share, most_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._held, self._counted = 0.0, -math.inf
        self._random = random.Random()

    def __call__(self, files: list[bytes]) -> None:
        for raw in files:
            if self._random.random() >= self._share or not self._has_room(len(raw)):
                continue
            target = self._folder / f"{time.strftime('%Y%m%d')}-{hashlib.sha256(raw).hexdigest()[:24]}"
            if target.exists():
                continue
            temporary = target.with_name(f".{target.name}")
            try:
                temporary.write_bytes(raw)
                temporary.replace(target)
                self._held += len(raw)
            except OSError:
                temporary.unlink(missing_ok=True)

    def _has_room(self, size: int) -> bool:
        """Return whether the folder has room for another file.

        Its size is read again every minute, since other processes fill the folder and users empty it.
        """
        if time.monotonic() > self._counted + _RECOUNT_S:
            with suppress(FileNotFoundError):  # the folder or a file was just moved away
                files = [entry.stat().st_size for entry in os.scandir(self._folder) if entry.is_file()]
                self._held, self._counted = float(sum(files)), time.monotonic()
        return self._held + size <= self._most


def serve(project: Project, params: Params, port: int) -> None:
    """Answer requests until interrupted, in `serve.workers` processes (`auto`: one per core).

    Raises:
        ValueError: If the port is in use.
    """
    import uvicorn

    from temper.serving.connection import Connection

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            raise ValueError(
                f"port {port} is in use; stop the process that listens there, or choose another port: "
                f"{project.make(f'serve PORT={port + 1}')}"
            ) from None
    print(f"http://{_HOST}:{port}/docs describes the requests; Ctrl-C stops the server", flush=True)
    with tempfile.TemporaryDirectory(prefix="temper-serve-") as shared:
        os.environ.update({SHARED: shared, _PROJECT: str(project.folder)})
        uvicorn.run(
            "temper.ops.serve:make_worker",
            factory=True,
            http=Connection,
            timeout_keep_alive=math.ceil(params.serve.timeout_s),
            workers=_workers(params),
            host=_HOST,
            port=port,
            log_level="warning",
            access_log=False,
            proxy_headers=False,
            timeout_graceful_shutdown=10,
        )


def _workers(params: Params) -> int:
    return len(os.sched_getaffinity(0)) if params.serve.workers == "auto" else params.serve.workers


def make_worker() -> "Server":
    """Return the application of one server process; uvicorn calls this."""
    from temper.serving.app import make_app

    if (parent := multiprocessing.parent_process()) is not None:
        parent_death.end_with_parent(parent.pid)
    project = Project.at(Path(os.environ[_PROJECT]))
    params = load(project.folder)
    sample = None
    if params.serve.sample_share:
        inbox = project.folder / params.retrain.inbox / "unlabelled"
        sample = Sampler(inbox, share=params.serve.sample_share, most_bytes=params.serve.sample_mb * 1e6)
    follower = Follower(lambda: place_of(project, params.project), every_s=_EVERY_S, say=_make_printer())
    # Connections are not distributed evenly, so a process that has most of them may use all cores.
    cores = len(os.sched_getaffinity(0))
    return make_app(follower, params.serve, cores=cores, token=os.environ.get(TOKEN) or None, sample=sample)


def _make_printer() -> Callable[[str], None]:
    """Return a function that prints in only one of the processes, since all of them report the same.

    When the printing process ends, another one takes over.
    """
    lock = os.open(Path(os.environ[SHARED], "voice"), os.O_CREAT | os.O_RDWR)

    def report(text: str) -> None:
        with suppress(BlockingIOError):
            fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print(text, flush=True)

    return report


def run(project: Project, params: Params, port: int | None = None) -> None:
    """Serve the champion until Ctrl-C.

    Args:
        project: Project whose champion is served.
        params: Parameters of the project.
        port: Port to use instead of `serve.port`.

    Raises:
        ValueError: If there is no registered model, or the port is in use.
    """
    if not model_versions.known(project):
        raise ValueError(
            f"{project.folder} has no registered models yet; run `{project.make('pipeline')}` first"
        )
    with suppress(KeyboardInterrupt):
        serve(project, params, port or params.serve.port)
