"""Measure the candidates, on clean images and under stress, from their answers to raw images.

Each stressed batch is made once and given to every candidate. A batch is reduced to tallies: what each
image adds to the scores. As soon as a cell (candidate, condition, severity) is complete, its tallies are
resampled over source images, or groups of them, into scores under each draw, and then dropped. Memory
therefore does not grow with the number of conditions. Results are stored in a folder as they are measured, so
that a killed evaluation continues where it stopped.

Left out: agreement between candidates, because `Problem` has no method for it that works on answers from
files.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Float64, Int64
from torch import Tensor

from temper.maths.batching import fit_batch, rows_of
from temper.maths.geometry import hide
from temper.maths.random import derive, permutation
from temper.maths.statistics import draw, sum_units
from temper.problem import Answer, Problem, Targets
from temper.progress import Bar
from temper.stress.cells import CLEAN, Cell, clean_cells, means, part_cells, score_all, stressed_cells
from temper.stress.conditions import SEVERITIES, Condition, applicable, stress
from temper.stress.params import EvaluateParams
from temper.stress.partial_results import Pieces, Tensors
from temper.stress.pool import Pool

Candidate: TypeAlias = Callable[[Mapping[str, np.ndarray]], Answer]
"""A network under test: takes packed inputs by name as a deployed file does."""
_CLEAN_RESULTS = ("tallies", "confusion")
"""Names of the results of a candidate on clean images."""


@dataclass(frozen=True)
class Evaluation:
    """All results of an evaluation."""

    cells: tuple[Cell, ...]
    confusions: Mapping[str, Int64[Tensor, "classes classes"]]
    """Candidate -> confusion matrix over all clean test images."""
    errors: Mapping[str, Mapping[str, Float64[Tensor, "images"]]]
    """Candidate -> way to be wrong -> error on each clean test image."""
    alone: Mapping[str, Float64[Tensor, "units"]]
    """Candidate -> headline of each clean test image, or group of images, by itself."""
    measured: Mapping[str, Mapping[str, Float64[Tensor, "images values"]]]
    """Candidate -> column of measurements -> its answers to the clean test images."""
    subset: Int64[Tensor, "stressed"]
    """Numbers of the images on which conditions were measured."""
    conditions: tuple[Condition, ...]


def choose(strata: Sequence[frozenset[str]], count: int, *, seed: int) -> Int64[Tensor, "count"]:
    """Choose `count` examples, spread as evenly as possible over the strata; return their numbers, sorted.

    The strata take turns: the stratum with the fewest chosen examples gives its next one, in a random order.
    """
    if count >= len(strata):
        return torch.arange(len(strata))
    waiting: dict[str, list[int]] = {}
    for number in permutation(len(strata), seed=seed, stream="stress images").tolist():
        for name in strata[number]:
            waiting.setdefault(name, []).append(number)
    taken = dict.fromkeys(sorted(waiting), 0)
    chosen: set[int] = set()
    while len(chosen) < count:
        name = min(taken, key=taken.__getitem__)
        while waiting[name] and waiting[name][-1] in chosen:
            waiting[name].pop()
        if not waiting[name]:
            del taken[name]
            continue
        number = waiting[name].pop()
        chosen.add(number)
        for other in strata[number]:
            if other in taken:
                taken[other] += 1
    return torch.tensor(sorted(chosen))


def evaluate(
    problem: Problem,
    candidates: Mapping[str, Candidate],
    pool: Pool,
    *,
    targets: Targets,
    strata: Sequence[frozenset[str]],
    params: EvaluateParams,
    seed: int,
    units: Int64[Tensor, "images"] | None = None,
    checkpoints: Path | None = None,
) -> Evaluation:
    """Measure every candidate on all test images, and on a subset under every condition and severity.

    Args:
        problem: Problem that the candidates solve.
        candidates: Networks under test, by name.
        pool: The test examples.
        targets: Truth of the test images, in the same order.
        strata: Strata of each test image.
        params: How much to measure.
        seed: Seed of the run.
        units: Number of the unit of each test image, which the bootstrap draws; None if each image is one.
        checkpoints: Folder that stores partial results; a rerun with the same inputs continues from them.
            None stores nothing.

    Raises:
        ValueError: If there are no test images.
    """
    if not len(pool):
        raise ValueError(
            "the test split is empty: evaluation needs at least one test image; "
            "raise prepare.test_share, or add images to the source's own test split"
        )
    units = torch.arange(len(pool)) if units is None else units
    subset = choose(strata, params.stress_images, seed=seed)
    conditions = applicable(params.families, pool)
    size = fit_batch([pool.num_values], params.batch_size)
    everything, some = (keys.split(size) for keys in (torch.arange(len(pool)), subset))
    pieces = Pieces(checkpoints)
    with Bar("evaluate", len(everything) + len(some) * len(conditions) * len(SEVERITIES)) as bar:
        on_clean = partial(_measure_clean, problem, candidates, pool, targets, problem.parts(targets))
        clean = pieces.measure(CLEAN, everything, on_clean, _join, bar)
        tallies, confusions = (
            {name: clean[f"{name}/{what}"] for name in candidates if f"{name}/{what}" in clean}
            for what in _CLEAN_RESULTS
        )
        alone = {
            name: problem.score(sum_units(found, units))[problem.headline.name].double()
            for name, found in tallies.items()
        }
        cells = clean_cells(problem, tallies, strata, units, subset, params, seed)
        by_part = {name: _of_parts(clean, name) for name in candidates}
        cells += part_cells(problem, by_part, units, params, seed)
        drawn, own = units[subset], derive(seed, "bootstrap")
        draws = draw(len(drawn.unique()), resamples=params.bootstrap, seed=own)
        score = partial(score_all, problem, drawn, draws)
        for condition in conditions:
            for severity in SEVERITIES:
                shown = partial(
                    _measure_stressed, problem, candidates, pool, targets, condition, severity, seed
                )
                scored = pieces.measure(f"{condition.name} {severity}", some, shown, score, bar)
                cells += stressed_cells(scored, condition, severity, len(subset))
        pieces.write()
    errors = {
        name: {kind: clean[f"{name}/errors/{kind}"] for kind in problem.mistakes} for name in candidates
    }
    measured = {
        name: {column: clean[f"{name}/answers/{column}"] for column in _measurements(problem)}
        for name in candidates
    }
    cells += means(cells, params.families)
    return Evaluation(tuple(cells), confusions, errors, alone, measured, subset, conditions)


def _of_parts(clean: Tensors, candidate: str) -> dict[str, Tensor]:
    """Return the tallies of a candidate by part of the truth."""
    start = f"{candidate}/parts/"
    return {key.removeprefix(start): value for key, value in clean.items() if key.startswith(start)}


def _measurements(problem: Problem) -> list[str]:
    """Return the columns of measurements that truth and answer have in common."""
    return [
        name for name, field in problem.answer.items() if field.unit is not None and name in problem.truth
    ]


def _measure_clean(
    problem: Problem,
    candidates: Mapping[str, Candidate],
    pool: Pool,
    targets: Targets,
    parts: Mapping[str, Targets],
    keys: Int64[Tensor, "batch"],
) -> Tensors:
    """Measure each candidate on a batch of unchanged images.

    Returns:
        `<candidate>/<one of _CLEAN_RESULTS>`, `<candidate>/errors/<way to be wrong>`,
        `<candidate>/parts/<part of the truth>`, and `<candidate>/answers/<column>` for each measurement.
    """
    shown = pool.serve(keys)
    truth = rows_of(targets, keys)
    found = {}
    for name, candidate in candidates.items():
        answer = candidate(shown)
        found[f"{name}/tallies"] = problem.tally(answer, truth).double()
        for part, only in parts.items():
            found[f"{name}/parts/{part}"] = problem.tally(answer, rows_of(only, keys)).double()
        for kind, error in problem.errors(answer, truth).items():
            found[f"{name}/errors/{kind}"] = error.double()
        for column in _measurements(problem):
            found[f"{name}/answers/{column}"] = answer[column].double()
        if (confusion := problem.confusion(answer, truth)) is not None:
            found[f"{name}/confusion"] = confusion[None]
    return found


def _join(parts: Sequence[Tensors]) -> Tensors:
    """Join the results of all clean batches; confusion matrices are added up."""
    joined = {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
    return {key: value.sum(dim=0) if key.endswith("/confusion") else value for key, value in joined.items()}


def _measure_stressed(
    problem: Problem,
    candidates: Mapping[str, Candidate],
    pool: Pool,
    targets: Targets,
    condition: Condition,
    severity: int,
    seed: int,
    keys: Int64[Tensor, "batch"],
) -> Tensors:
    """Return the tallies of each candidate on a batch of images under a condition."""
    images = pool.take(keys)
    found = stress(condition, images, keys=keys, severity=severity, seed=seed, pool=pool)
    shown, truth = pool.serve(keys, found.images), rows_of(targets, keys)
    if found.hidden is not None:
        truth = hide(truth, problem.truth, found.hidden)
    return {name: problem.tally(candidate(shown), truth).double() for name, candidate in candidates.items()}
