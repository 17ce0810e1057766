"""`make serve`: the champion behind HTTP on 127.0.0.1, until Ctrl-C. It follows the alias: a promotion needs no restart."""

import argparse
import hashlib
import os
import random
import socket
import sys
import time
from pathlib import Path

from tasks import catalogue, upkeep
from tasks.project import Project
from temper.params import Params
from temper.serving.models import Follower, Place

ALIAS = "champion"
TOKEN = "TEMPER_SERVE_TOKEN"
"""Environment variable with the token that clients must send; without it everybody on this machine may ask."""
_HOST = "127.0.0.1"
_EVERY_S = 1.0


def place_of(project: Project, name: str) -> Place | None:
    """Where the champion lies now."""
    found = catalogue.named(project, name, alias=ALIAS)
    return None if found is None else Place(found.name, found.version, found.digest, found.file)


class Sampler:
    """Lays a share of the pictures into the inbox, up to so many bytes; what cannot be written is left out.

    Args:
        folder: The inbox's folder for pictures without labels.
        share: Of the pictures.
        most_bytes: The folder holds no more.
    """

    def __init__(self, folder: Path, *, share: float, most_bytes: float) -> None:
        self._folder, self._share, self._most = folder, share, most_bytes
        folder.mkdir(parents=True, exist_ok=True)
        self._held = sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
        self._random = random.Random()

    def __call__(self, files: list[bytes]) -> None:
        for raw in files:
            if self._random.random() >= self._share or self._held + len(raw) > self._most:
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


def serve(project: Project, params: Params, port: int) -> None:
    """Answer until interrupted.

    Raises:
        ValueError: If the port is taken.
    """
    import uvicorn

    from temper.serving.app import make_app

    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((_HOST, port))
        except OSError:
            raise ValueError(
                f"port {port} is in use; end what listens there, or name another: make serve PORT={port + 1}"
            ) from None
    sample = None
    if params.serve.sample_share:
        inbox = project.folder / params.retrain.inbox / "unlabelled"
        sample = Sampler(inbox, share=params.serve.sample_share, most_bytes=params.serve.sample_mb * 1e6)
    follower = Follower(
        lambda: place_of(project, params.project), every_s=_EVERY_S, say=lambda text: print(text, flush=True)
    )
    app = make_app(follower, params.serve, token=os.environ.get(TOKEN) or None, sample=sample)
    print(f"http://{_HOST}:{port}/docs shows what can be asked; Ctrl-C ends it", flush=True)
    uvicorn.run(app, host=_HOST, port=port, log_level="warning", access_log=False, timeout_graceful_shutdown=10)


def main(arguments: list[str] | None = None) -> int:
    """Serve a project's champion; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m tasks.serve", description="Serve a project's champion on 127.0.0.1."
    )
    parser.add_argument("--project", type=Path, default=Path(), help="folder with params.yaml (default: here)")
    parser.add_argument("--port", type=int, help="instead of params.yaml's serve.port")
    options = parser.parse_args(arguments)
    project = Project.at(options.project)
    os.environ.update(project.environment())
    try:
        params = upkeep.load_params(project.folder)
        if not catalogue.known(project):
            raise ValueError(f"{project.folder} has no registered models yet; run `make pipeline` first")
        serve(project, params, options.port or params.serve.port)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
