"""`make serve` on a registered model.

It gives the same answers as MLflow's own server. It has several processes, which start and end together.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from temper.ops.project import Project
from tests.project import ROOT, copy_project, free_port

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.enable_socket]
WAIT_S = 120
PIXELS = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def project(finished: Path, tmp_path_factory: pytest.TempPathFactory) -> Project:
    folder = copy_project(finished, tmp_path_factory.mktemp("serve") / "project")
    with (folder / "params.yaml").open("a") as params:
        params.write("serve: {workers: 2}\n")
    return Project.at(folder)


def ask(url: str, body: bytes | None = None, kind: str = "application/json") -> bytes:
    with urllib.request.urlopen(
        urllib.request.Request(url, body, {"Content-Type": kind}), timeout=30
    ) as response:
        return bytes(response.read())


def wait(what: str, holds: Any) -> Any:
    until = time.monotonic() + WAIT_S
    while True:
        try:
            if found := holds():
                return found
        except OSError:
            pass
        assert time.monotonic() < until, what
        time.sleep(0.1)


@contextmanager
def running(
    project: Project, log: Path, ready: str, *command: str
) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    port = free_port()
    environment = {**os.environ, **project.environment()}
    with (
        log.open("wb") as stream,
        subprocess.Popen(
            [sys.executable, "-m", *command, "--port", str(port)],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        ) as server,
    ):
        url = f"http://127.0.0.1:{port}"
        try:
            wait(f"no answer: {log.read_text()}", lambda: server.poll() is not None or ask(url + ready))
            assert server.poll() is None, log.read_text()
            yield url, server
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGTERM)


def workers(server: subprocess.Popen[bytes]) -> list[psutil.Process]:
    children = filter(lives, psutil.Process(server.pid).children())
    return [child for child in children if "spawn_main" in " ".join(child.cmdline())]


def lives(process: psutil.Process) -> bool:
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE


def test_both_servers_give_the_same_answers(project: Project, tmp_path: Path):
    ours = running(
        project, tmp_path / "ours.log", "/ready", "temper", "serve", "--project", str(project.folder)
    )
    peer = ["mlflow", "models", "serve", "-m", "models:/toys-multiclass@champion", "--env-manager", "local"]
    with ours as (here, _), running(project, tmp_path / "peer.log", "/ping", *peer) as (there, _):
        said = json.loads(ask(f"{here}/predict", json.dumps({"image": PIXELS.tolist()}).encode()))
        shape = ",".join(map(str, PIXELS.shape))
        raw = json.loads(ask(f"{here}/predict?shape={shape}", PIXELS.tobytes(), "application/octet-stream"))
        body = json.dumps({"inputs": {"image": PIXELS.tolist()}}).encode()
        peers = json.loads(ask(f"{there}/invocations", body))["predictions"]["probabilities"]
    assert said == raw and len(said["answers"]) == len(PIXELS)
    found = [answer["probabilities"] for answer in said["answers"]]
    assert np.allclose(found, peers, atol=1e-6) and not np.allclose(found[0], found[1], atol=1e-4)
    assert [answer["class"] for answer in said["answers"]] == [
        said["model"]["classes"][row.argmax()] for row in np.array(peers)
    ]


def test_processes_live_and_die_as_one(project: Project, tmp_path: Path):
    log = tmp_path / "log"
    with running(project, log, "/ready", "temper", "serve", "--project", str(project.folder)) as (
        url,
        server,
    ):

        def predict() -> None:
            ask(f"{url}/predict?shape=1,16,16,3", PIXELS[:1].tobytes(), "application/octet-stream")

        def counted() -> int:
            found = re.search(
                r'^temper_requests_total\{status="200"\} (\d+)', ask(f"{url}/metrics").decode(), re.M
            )
            return int(found[1]) if found else 0

        wait("not two processes", lambda: len(workers(server)) == 2)
        for _ in range(40):
            predict()
        assert counted() == 40, "the counts of the processes are added up"
        first = workers(server)[0]
        first.kill()
        wait("the killed one is not replaced", lambda: len({*workers(server)} - {first}) == 2)
        wait("the new one does not answer", lambda: [predict() for _ in range(40)])
        assert counted() >= 80, "no count is lost"
        left = workers(server)
        server.kill()
        wait("processes outlive their server", lambda: not any(map(lives, left)))
    assert log.read_text().count("serving version 1 of toys-multiclass") <= 2, (
        "one process prints the line, and after its death one more"
    )
