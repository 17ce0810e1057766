"""Contestants taking turns: starts each as a process, reads what it tells, and watches its memory."""

import json
import os
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from peers.job import CONTESTANTS, OWN_LOOP, Job
from temper import artifacts
from temper.engine.distributed.launcher import LARGE_PAGES, SHORT_SPIN
from temper.stages.source_deps import PACKAGE, stage_sources

_BENCH = Path(__file__).parents[1]
_SAMPLE_EVERY_S = 1.0
_SHOWN_LINES = 15


@dataclass
class Turn:
    """What one training came to."""

    contestant: str
    seed: int
    seconds: float = 0.0
    """Of training in all."""
    images: int = 0
    """Trained on in all."""
    peak_bytes: int = 0
    """Most memory of the process and its children: sum of proportional set sizes, sampled."""
    epochs: list[dict[str, float]] = field(default_factory=list)
    """`epoch`, `seconds` of training up to there, `score`."""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds

    def seconds_to(self, level: float) -> float | None:
        """Seconds of training after which a score was first at least `level`; None if never."""
        return next((epoch["seconds"] for epoch in self.epochs if epoch["score"] >= level), None)


class Kept:
    """Finished trainings in a file: what is known for the same data, parameters, code and seed is not trained again.

    Args:
        path: The file; its folder is made.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def take(self, job: Job, heard: Callable[[dict[str, float]], object] = lambda epoch: None) -> Turn:
        """The turn of a job, taken now unless it is known; `heard` is called after each epoch either way."""
        key = identify(job)
        if key in self._known:
            for epoch in self._known[key]["turn"]["epochs"]:
                heard(epoch)
        else:
            self._known[key] = {"job": asdict(job), "turn": asdict(take_turn(job, heard))}
            artifacts.write_atomically(self._path, json.dumps(self._known, indent=1) + "\n")
        return Turn(**self._known[key]["turn"])


def identify(job: Job) -> str:
    """What a finished training belongs to: data, parameters, code and all that the job says."""
    data = {name: artifact.digest for name, artifact in job.inputs().items()}
    rest = {name: value for name, value in asdict(job).items() if name not in ("project", "overrides")}
    code = artifacts.digest_files(stage_sources("train"), PACKAGE)
    here = Path(__file__).parent
    own = artifacts.digest_files(
        [here / f"{name}.py" for name in ("job", *CONTESTANTS[job.contestant])], here
    )
    return artifacts.digest_json([data, asdict(job.params().train), rest, code, own])


def take_turn(job: Job, heard: Callable[[dict[str, float]], object] = lambda epoch: None) -> Turn:
    """Train in a process of its own and wait for it.

    Args:
        job: What to train.
        heard: Called after each epoch.

    Raises:
        ValueError: If it failed; holds the last lines it printed.
    """
    turn = Turn(job.contestant, job.seed)
    command = [sys.executable, "-m", "peers", json.dumps(asdict(job))]
    with (
        tempfile.TemporaryFile("w+") as said,
        subprocess.Popen(
            command, cwd=_BENCH, env=_environment(job), stdout=subprocess.PIPE, stderr=said, text=True
        ) as process,
    ):
        assert process.stdout is not None
        watch = _Memory(process.pid)
        try:
            for line in process.stdout:
                told = json.loads(line)
                if "epoch" in told:
                    turn.epochs.append(told)
                    heard(told)
                else:
                    turn.seconds, turn.images, turn.facts = told["seconds"], told["images"], told["facts"]
            code = process.wait()
        finally:
            process.kill()
            turn.peak_bytes = watch.stop()
        if code or not turn.images:
            said.seek(0)
            last = "".join(said.readlines()[-_SHOWN_LINES:])
            raise ValueError(
                f"{job.contestant} with seed {job.seed} ended with status {code}; it said last:\n{last}"
            )
    return turn


def _environment(job: Job) -> dict[str, str]:
    """The short spin for all: without it loading workers would slow a peer's training many times. Large pages for temper, as it sets them."""
    return {
        **os.environ,
        **({"GLIBC_TUNABLES": LARGE_PAGES} if job.contestant in OWN_LOOP else {}),
        "OMP_NUM_THREADS": str(job.threads),
        "GOMP_SPINCOUNT": SHORT_SPIN,
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }


class _Memory(threading.Thread):
    """Samples the memory of a process and its children until told to stop."""

    def __init__(self, pid: int) -> None:
        super().__init__(daemon=True)
        self._process, self._peak, self._over = psutil.Process(pid), 0, threading.Event()
        self.start()

    def run(self) -> None:
        while not self._over.wait(_SAMPLE_EVERY_S):
            total = 0
            try:
                for each in (self._process, *self._process.children(recursive=True)):
                    total += each.memory_full_info().pss
            except psutil.Error:
                continue  # it ended meanwhile; a part of the tree is no sample
            self._peak = max(self._peak, total)

    def stop(self) -> int:
        """Most bytes seen."""
        self._over.set()
        self.join()
        return self._peak
