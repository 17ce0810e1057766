"""Throughput and latency of `make serve` and of `mlflow models serve`, on the same model in the same run.

    PYTHONPATH=. python bench/serve.py [--project .] [--clients 1,32] [--seconds 10] [--rounds 3]

Needs a project with a registered champion, and Debian's load generator `wrk` (apt-get install wrk). MLflow's
server runs twice: with its defaults, and with one worker per core. All servers run the whole time. Each turn
sends requests to one of them, with one connection per client, as fast as answers arrive. A request holds one
image of the model's size: as JSON, which all servers accept, and for temper also as raw bytes, as a PNG and
as a JPEG file. The image is smooth with a little noise, like a photograph. Turns alternate. Before the
measurement, the answers of all servers and formats are compared; a refused request ends the measurement. The
load generator runs on the same cores.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated

import cv2
import numpy as np
import typer

from peers.table import markdown, spread
from temper.config import load
from temper.make_command import ROOT
from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from temper.progress import Bar
from temper.serving.model_follower import Model, Place

_HOST = "127.0.0.1"
_START_S = 120.0
_SCRIPT = """
local file = io.open(%(body)s, "rb")
wrk.method = "POST"
wrk.body = file:read("*a")
wrk.headers["Content-Type"] = %(kind)s
function done(summary, latency)
  local e = summary.errors
  local format = 'RESULT {"all": %%d, "bad": %%d, "us": %%d, "lost": %%d, '
    .. '"p50": %%f, "p95": %%f, "p99": %%f}\\n'
  io.write(string.format(format,
    summary.requests, e.status, summary.duration, e.connect + e.read + e.write + e.timeout,
    latency:percentile(50), latency:percentile(95), latency:percentile(99)))
end
"""


@dataclass(frozen=True)
class Ask:
    """A server and a format of requests."""

    name: str
    url: str
    kind: str
    body: Path


def free_port() -> int:
    """Return a port that no process listens on."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        return int(probe.getsockname()[1])


@contextmanager
def running(command: list[str], url: str, environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run a server: the block starts with its first answer, and at its end all its processes are ended."""
    with log.open("wb") as stream:
        server = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=stream,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        until = time.monotonic() + _START_S
        while True:
            with suppress(OSError), urllib.request.urlopen(url, timeout=2):
                break
            if server.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"`{' '.join(command)}` does not answer:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)
        yield
    finally:
        with suppress(ProcessLookupError):
            os.killpg(server.pid, 15)
        server.wait()


def load_one(ask: Ask, clients: int, seconds: float, folder: Path) -> dict[str, float]:
    """Send requests for some seconds.

    Raises:
        SystemExit: If a request was refused (wrk counts statuses from 400 on) or an answer was lost.
    """
    script = folder / "ask.lua"
    script.write_text(_SCRIPT % {"body": json.dumps(str(ask.body)), "kind": json.dumps(ask.kind)})
    command = [
        "wrk",
        "-t1",
        f"-c{clients}",
        f"-d{seconds:g}s",
        "--timeout",
        "30s",
        "-s",
        str(script),
        ask.url,
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("RESULT "))
    found: dict[str, float] = json.loads(line.removeprefix("RESULT "))
    if found["bad"] or found["lost"]:
        raise SystemExit(
            f"{ask.name}: {found['bad']:.0f} requests were refused, {found['lost']:.0f} answers were lost: "
            f"{done.stdout}"
        )
    return found


def check_answers(asks: list[Ask]) -> None:
    """Send one request to each: all must give the same answer (except JPEG, which changes the pixels)."""
    answers = []
    for ask in asks:
        request = urllib.request.Request(ask.url, ask.body.read_bytes(), {"Content-Type": ask.kind})
        with urllib.request.urlopen(request, timeout=60) as response:
            found = json.load(response)
        answers.append(
            found["answers"][0] if "answers" in found else {k: v[0] for k, v in found["predictions"].items()}
        )
    for ask, answer in zip(asks, answers, strict=True):
        same = all(np.allclose(answer[name], value, atol=1e-5) for name, value in answers[0].items())
        if not same and ask.kind != "image/jpeg":
            raise SystemExit(
                f"{ask.name} and {asks[0].name} give different answers: {answer} and {answers[0]}"
            )


def write_bodies(model: Model, folder: Path) -> dict[str, Path]:
    """Write one random image in each format; returns format -> file."""
    height, width = model.size_px
    random = np.random.default_rng(0)
    coarse = cv2.resize(
        random.uniform(30, 220, (8, 8, model.channels)), (width, height), interpolation=cv2.INTER_CUBIC
    )
    noisy = coarse.reshape(1, height, width, model.channels) + random.normal(
        0, 4, (1, height, width, model.channels)
    )
    pixels = noisy.clip(0, 255).astype(np.uint8)
    blue_first = np.ascontiguousarray(pixels[0, ..., ::-1])
    bodies = {
        "temper": json.dumps({"image": pixels.tolist()}).encode(),
        "mlflow": json.dumps({"inputs": {"image": pixels.tolist()}}).encode(),
        "raw": pixels.tobytes(),
        "png": cv2.imencode(".png", blue_first)[1].tobytes(),
        "jpeg": cv2.imencode(".jpg", blue_first)[1].tobytes(),
    }
    for name, body in bodies.items():
        (folder / name).write_bytes(body)
    return {name: folder / name for name in bodies}


def main(
    project: Annotated[Path, typer.Option(help="Folder with params.yaml.")] = Path(),
    clients: Annotated[str, typer.Option(help="Numbers of connections, one measurement each.")] = "1,32",
    seconds: Annotated[float, typer.Option(min=1, help="Seconds per turn.")] = 10.0,
    rounds: Annotated[int, typer.Option(min=1, help="Turns per server and format.")] = 3,
) -> None:
    """Measure all servers and print a table."""
    if shutil.which("wrk") is None:
        raise SystemExit("wrk is not installed: apt-get install wrk")
    place = Project.at(project)
    name = load(place.folder).project
    champion = model_versions.named(place, name, alias="champion")
    if champion is None:
        raise SystemExit(f"{place.folder} has no champion; run `make pipeline` first")
    model = Model.load(Place(name, champion.version, champion.digest, champion.file))
    environment = {**os.environ, **place.environment()}
    cores = len(os.sched_getaffinity(0))
    ours, one, many = free_port(), free_port(), free_port()
    with tempfile.TemporaryDirectory() as scratch, ExitStack() as servers:
        folder = Path(scratch)
        serve = ["temper", "serve", "--project", str(place.folder), "--port", str(ours)]
        servers.enter_context(
            running(serve, f"http://{_HOST}:{ours}/ready", environment, folder / "ours.log")
        )
        for port, workers in ((one, 1), (many, cores)):
            peer = [
                "mlflow",
                "models",
                "serve",
                "-m",
                f"models:/{name}/{champion.version}",
                "--env-manager",
                "local",
            ]
            peer += ["-h", _HOST, "-p", str(port), "-w", str(workers)]
            servers.enter_context(
                running(peer, f"http://{_HOST}:{port}/ping", environment, folder / f"{port}.log")
            )
        bodies = write_bodies(model, folder)
        shape = ",".join(str(side) for side in (1, *model.size_px, model.channels))
        mine = f"http://{_HOST}:{ours}/predict"
        peers = {
            "mlflow models serve": f"http://{_HOST}:{one}/invocations",
            f"mlflow models serve -w {cores}": f"http://{_HOST}:{many}/invocations",
        }
        asks = [
            *(Ask(f"{peer}, JSON", url, "application/json", bodies["mlflow"]) for peer, url in peers.items()),
            Ask("make serve, JSON", mine, "application/json", bodies["temper"]),
            Ask("make serve, raw", f"{mine}?shape={shape}", "application/octet-stream", bodies["raw"]),
            Ask("make serve, PNG", mine, "image/png", bodies["png"]),
            Ask("make serve, JPEG", mine, "image/jpeg", bodies["jpeg"]),
        ]
        check_answers(asks)
        counts = [int(each) for each in clients.split(",")]
        turns: dict[tuple[int, str], list[dict[str, float]]] = {
            (count, ask.name): [] for count in counts for ask in asks
        }
        with Bar("serve", rounds * len(turns) + len(asks)) as bar:
            for ask in asks:  # warm-up
                load_one(ask, max(counts), 2.0, folder)
                bar.advance()
            for _ in range(rounds):
                for count in counts:
                    for ask in asks:
                        turns[count, ask.name].append(load_one(ask, count, seconds, folder))
                        bar.advance(note=f"{ask.name}, {count} clients")
    rows = []
    for (count, name_of_ask), found in turns.items():
        rates = [1e6 * turn["all"] / turn["us"] for turn in found]
        peer_rates = [1e6 * turn["all"] / turn["us"] for turn in turns[count, asks[0].name]]
        ratio = median(a / b for a, b in zip(rates, peer_rates, strict=True))
        latencies = [f"{median(turn[key] for turn in found) / 1000:.2f}" for key in ("p50", "p95", "p99")]
        rows.append([str(count), name_of_ask, spread(rates), f"{ratio:.1f}", *latencies, str(len(found))])
    print(f"{name}, version {champion.version}: {champion.file.stat().st_size} bytes, images {shape}")
    print(
        markdown(
            ["clients", "server", "requests/s", "times mlflow's", "p50 ms", "p95 ms", "p99 ms", "n"], rows
        )
    )


if __name__ == "__main__":
    typer.run(main)
