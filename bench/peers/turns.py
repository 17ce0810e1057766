"""Turns of contestants: starts each one as a process, reads its report, and samples its memory."""

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
    """The result of one training."""

    contestant: str
    seed: int
    seconds: float = 0.0
    """Seconds of training in all."""
    images: int = 0
    """Images trained on in all epochs."""
    peak_bytes: int = 0
    """Peak memory of the process and its children: sum of proportional set sizes, sampled."""
    epochs: list[dict[str, float]] = field(default_factory=list)
    """For each epoch: `epoch`, `seconds` of training until its end, `score`."""
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def images_per_s(self) -> float:
        return self.images / self.seconds

    def seconds_to(self, level: float) -> float | None:
        """Return the seconds of training after which a score was first at least `level`; None if never."""
        return next((epoch["seconds"] for epoch in self.epochs if epoch["score"] >= level), None)


class Kept:
    """Finished trainings in a file. A training with the same data, parameters, code and seed is not repeated.

    Args:
        path: The file; its folder is created if necessary.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._known: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}

    def take(self, job: Job, heard: Callable[[dict[str, float]], object] = lambda epoch: None) -> Turn:
        """Return the stored turn of a job, or train now; `heard` is called for each epoch in both cases."""
        key = identify(job)
        if key in self._known:
            for epoch in self._known[key]["turn"]["epochs"]:
                heard(epoch)
        else:
            self._known[key] = {"job": asdict(job), "turn": asdict(take_turn(job, heard))}
            artifacts.write_atomically(self._path, json.dumps(self._known, indent=1) + "\n")
        return Turn(**self._known[key]["turn"])


def identify(job: Job) -> str:
    """Return the key of a finished training: a digest of data, parameters, code and the rest of the job."""
    data = {name: artifact.digest for name, artifact in job.inputs().items()}
    rest = {name: value for name, value in asdict(job).items() if name not in ("project", "overrides")}
    code = artifacts.digest_files(stage_sources("train"), PACKAGE)
    here = Path(__file__).parent
    own = artifacts.digest_files(
        [here / f"{name}.py" for name in ("job", *CONTESTANTS[job.contestant])], here
    )
    return artifacts.digest_json([data, asdict(job.params().train), rest, code, own])


def take_turn(job: Job, heard: Callable[[dict[str, float]], object] = lambda epoch: None) -> Turn:
    """Train in a separate process and wait for it.

    Args:
        job: The training.
        heard: Called after each epoch, with the epoch's line of the report.

    Raises:
        ValueError: If the training failed; the message contains the last lines that it printed.
    """
    turn = Turn(job.contestant, job.seed)
    command = [sys.executable, "-m", "peers", json.dumps(asdict(job))]
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, cwd=_BENCH, env=_environment(job), stdout=subprocess.PIPE, stderr=errors, text=True
        ) as process,
    ):
        assert process.stdout is not None
        memory = _Memory(process.pid)
        try:
            for line in process.stdout:
                report = json.loads(line)
                if "epoch" in report:
                    turn.epochs.append(report)
                    heard(report)
                else:
                    turn.seconds, turn.images = report["seconds"], report["images"]
                    turn.facts = report["facts"]
            code = process.wait()
        finally:
            process.kill()
            turn.peak_bytes = memory.stop()
        if code or not turn.images:
            errors.seek(0)
            last = "".join(errors.readlines()[-_SHOWN_LINES:])
            raise ValueError(
                f"{job.contestant} with seed {job.seed} ended with status {code}; its last output:\n{last}"
            )
    return turn


def _environment(job: Job) -> dict[str, str]:
    """Return the environment of a contestant.

    All get the short spin: without it, loading workers would slow down a peer's training many times. temper
    gets the large pages that its launcher sets.
    """
    return {
        **os.environ,
        **({"GLIBC_TUNABLES": LARGE_PAGES} if job.contestant in OWN_LOOP else {}),
        "OMP_NUM_THREADS": str(job.threads),
        "GOMP_SPINCOUNT": SHORT_SPIN,
        "NO_ALBUMENTATIONS_UPDATE": "1",
    }


class _Memory(threading.Thread):
    """Samples the memory of a process and its children until `stop` is called."""

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
                continue  # A process ended meanwhile: the sum over a part of the tree is not a sample.
            self._peak = max(self._peak, total)

    def stop(self) -> int:
        """Stop sampling; returns the peak in bytes."""
        self._over.set()
        self.join()
        return self._peak
