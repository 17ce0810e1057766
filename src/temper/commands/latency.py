"""Measure how fast each candidate is on this machine.

This is no DVC stage, because the result belongs to the machine and not to the files. Candidates take turns in
short bursts, so that a busy moment of the machine affects all of them. Results are stored in
`reports/latency.json` with the digests of the candidates' files. A candidate is not measured again while its
file and the machine are the same.
"""

import json
import shutil
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from temper import artifacts
from temper.commands.machine import describe_processor
from temper.inputs.facts import Facts, count_values
from temper.maths.batching import fit_batch
from temper.networks.onnx_model import Deployed
from temper.progress import Bar
from temper.stages.load_trained import read_facts
from temper.stress.card import RECORD, read_card, write_card

FILE = "latency.json"
BATCH = 256
_WARM_UP = 20
_BURST = 25
_BURSTS = 8
"""Number of bursts; together they are 200 runs of batch 1."""
_LONGEST_S = 2.0
"""Limit on the seconds spent on one candidate's batch 1. Slow candidates are timed less often."""
_ROUNDS = 5


def measure(project: Path, *, name: str | None = None) -> dict[str, Any]:
    """Time every candidate and write the reports: `latency.json`, and the model card with the latencies.

    Args:
        project: Folder with `artifacts/`.
        name: Name of the model for the title of the card.

    Returns:
        The content of `reports/latency.json`: `candidates` (name -> `digest`, `latency_ms` at batch 1,
        `images_per_s` at batch 256, or fewer large images) and `machine`.

    Raises:
        ValueError: If quantize's or evaluate's artifact is missing, damaged or made from other inputs.
    """
    quantize = artifacts.load("quantize", project / "artifacts" / "quantize")
    evaluation = artifacts.load("evaluate", project / "artifacts" / "evaluate")
    prepare = artifacts.load("prepare", project / "artifacts" / "prepare", check_files=False)
    facts = read_facts(prepare)
    card = read_card(evaluation.path(RECORD))
    files = {candidate: quantize.path(found["file"]) for candidate, found in card.candidates.items()}
    digests = {candidate: quantize.files[path.name] for candidate, path in files.items()}
    reports = project / "reports"
    reports.mkdir(exist_ok=True)
    machine = describe_machine()
    known = _read_known(reports / FILE, machine, digests)
    fresh = time_candidates(
        {candidate: path for candidate, path in files.items() if candidate not in known}, facts
    )
    timed = {
        **known,
        **{candidate: {"digest": digests[candidate], **found} for candidate, found in fresh.items()},
    }
    latency = {"candidates": {candidate: timed[candidate] for candidate in files}, "machine": machine}
    artifacts.write_atomically(reports / FILE, json.dumps(latency, indent=2) + "\n")
    shutil.rmtree(reports / "plots", ignore_errors=True)
    shutil.copytree(evaluation.folder / "plots", reports / "plots")
    write_card(reports, card, latency=latency, name=name)
    return latency


def describe_machine() -> dict[str, Any]:
    """Return what latencies depend on: processor, cores that this process may use, ONNX Runtime."""
    import onnxruntime

    return {**describe_processor(), "onnxruntime": onnxruntime.__version__}


def time_candidates(files: Mapping[str, Path], facts: Facts) -> dict[str, dict[str, Any]]:
    """Measure latency at batch 1 and throughput of each file, on all cores with random bytes.

    Throughput is that of batches of 256 examples, or of as many large ones as `fit_batch` allows.

    Args:
        files: Candidate -> ONNX file.
        facts: What the files take.
    """
    if not files:
        return {}
    rng = np.random.default_rng(0)
    candidates = {name: Deployed(path) for name, path in files.items()}
    size = fit_batch([count_values(facts)], BATCH)
    one, many = (
        {
            name: rng.integers(0, 256, (count, *each.shape)).astype(each.example(1).dtype)
            for name, each in facts.items()
        }
        for count in (1, size)
    )
    single: dict[str, list[float]] = {name: [] for name in files}
    batch: dict[str, list[float]] = {name: [] for name in files}
    with Bar("measure", (_BURSTS + _ROUNDS) * len(files)) as bar:
        for _ in range(_BURSTS):
            for name, candidate in candidates.items():
                if sum(single[name]) < _LONGEST_S:
                    warm_up = 2 if single[name] else _WARM_UP
                    single[name] += _time(lambda: candidate(one), runs=_BURST, warm_up=warm_up)  # noqa: B023
                bar.advance(note=f"{name}, batch 1")
        for _ in range(_ROUNDS):
            for name, candidate in candidates.items():
                batch[name] += _time(lambda: candidate(many), runs=1, warm_up=1)  # noqa: B023
                bar.advance(note=f"{name}, batch {size}")
    return {
        name: {"latency_ms": _latency(single[name]), "images_per_s": _throughput(batch[name], size)}
        for name in files
    }


def _time(call: Callable[[], object], *, runs: int, warm_up: int) -> list[float]:
    """Return the seconds of each run; stop early if runs are slow."""
    for _ in range(warm_up):
        call()
    seconds: list[float] = []
    while len(seconds) < runs and sum(seconds) < _LONGEST_S:
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def _latency(seconds: list[float]) -> dict[str, float]:
    p10, median, p90 = (float(value) * 1e3 for value in np.percentile(seconds, (10, 50, 90)))
    return {"median": round(median, 4), "p10": round(p10, 4), "p90": round(p90, 4), "n": len(seconds)}


def _throughput(seconds: list[float], size: int) -> dict[str, float]:
    rates = size / np.array(seconds)
    found = {"median": np.median(rates), "min": rates.min(), "max": rates.max()}
    return {
        **{name: round(float(value), 1) for name, value in found.items()},
        "n": len(seconds),
        "batch": size,
    }


def _read_known(
    path: Path, machine: Mapping[str, Any], digests: Mapping[str, str]
) -> dict[str, dict[str, Any]]:
    """Return earlier results for the same files on this machine; nothing if the file cannot be read."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["machine"] != machine:
            return {}
        return {name: one for name, one in found["candidates"].items() if digests.get(name) == one["digest"]}
    except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
        return {}
