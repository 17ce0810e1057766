"""`make serve`: the champion behind HTTP on 127.0.0.1, until Ctrl-C. It follows the alias: a promotion needs no restart."""

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
"""Environment variable with the token that clients must send; without it everybody on this machine may ask."""
_HOST = "127.0.0.1"
_PROJECT = "TEMPER_SERVE_PROJECT"
SHARED = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder where the processes count together."""
_EVERY_S = 1.0
_RECOUNT_S = 60.0


def place_of(project: Project, name: str) -> Place | None:
    """Where the champion lies now."""
    found = model_versions.named(project, name, alias=ALIAS)
    return None if found is None else Place(found.name, found.version, found.digest, found.file)


class Sampler:
    """Lays a share of the images into the inbox, up to so many bytes; what cannot be written is left out.

    Args:
        folder: The inbox's folder for images without labels.
        share: Of the images.
        most_bytes: The folder holds no more.
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
        """Looked up once a minute: other processes fill the folder too, and somebody empties it."""
        if time.monotonic() > self._counted + _RECOUNT_S:
            with suppress(FileNotFoundError):  # moved away in this moment
                files = [entry.stat().st_size for entry in os.scandir(self._folder) if entry.is_file()]
                self._held, self._counted = float(sum(files)), time.monotonic()
        return self._held + size <= self._most


def serve(project: Project, params: Params, port: int) -> None:
    """Answer until interrupted, in a process a core.

    Raises:
        ValueError: If the port is taken.
    """
    import uvicorn

    from temper.serving.connection import Connection

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            raise ValueError(
                f"port {port} is in use; end what listens there, or name another: make serve PORT={port + 1}"
            ) from None
    print(f"http://{_HOST}:{port}/docs shows what can be asked; Ctrl-C ends it", flush=True)
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
    """The application of one process; called by uvicorn."""
    from temper.serving.app import make_app

    if (parent := multiprocessing.parent_process()) is not None:
        parent_death.end_with_parent(parent.pid)
    project = Project.at(Path(os.environ[_PROJECT]))
    params = load(project.folder)
    sample = None
    if params.serve.sample_share:
        inbox = project.folder / params.retrain.inbox / "unlabelled"
        sample = Sampler(inbox, share=params.serve.sample_share, most_bytes=params.serve.sample_mb * 1e6)
    follower = Follower(lambda: place_of(project, params.project), every_s=_EVERY_S, say=_one_voice())
    # Connections are not dealt out evenly: a process that got most of them may use all cores.
    cores = len(os.sched_getaffinity(0))
    return make_app(follower, params.serve, cores=cores, token=os.environ.get(TOKEN) or None, sample=sample)


def _one_voice() -> Callable[[str], None]:
    """Prints in one of the processes, which all say the same; when that ends, the one that takes its place speaks."""
    mouth = os.open(Path(os.environ[SHARED], "voice"), os.O_CREAT | os.O_RDWR)

    def say(text: str) -> None:
        with suppress(BlockingIOError):
            fcntl.lockf(mouth, fcntl.LOCK_EX | fcntl.LOCK_NB)
            print(text, flush=True)

    return say


def run(project: Project, params: Params, port: int | None = None) -> None:
    """Serve the champion until Ctrl-C.

    Args:
        project: The project.
        params: Its parameters.
        port: Instead of `serve.port`.

    Raises:
        ValueError: If there is no registered model, or the port is in use.
    """
    if not model_versions.known(project):
        raise ValueError(f"{project.folder} has no registered models yet; run `make pipeline` first")
    with suppress(KeyboardInterrupt):
        serve(project, params, port or params.serve.port)
