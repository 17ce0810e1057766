"""Cells of an evaluation: the scores of one candidate in one situation, computed from summed tallies."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

import torch
from jaxtyping import Float64, Int64, UInt8
from torch import Tensor

from temper.maths.random import derive
from temper.maths.statistics import draw, resample, sum_units
from temper.problem import Problem
from temper.stress.conditions import SEVERITIES, Condition
from temper.stress.params import EvaluateParams
from temper.stress.partial_results import Tensors

CLEAN = "clean"
"""Family and condition of all test images, unchanged."""
SUBSET = "clean, stressed images only"
"""Condition of the unchanged test images on which conditions are measured: severity 0 of every curve."""
MEAN = "mean"
"""Condition of a mean over the conditions of a family."""
STRATUM = "stratum"
"""Family of the clean scores of each stratum; its conditions are the names of the strata."""

PART_OF_TRUTH = "part"
"""Family of the clean scores of parts of the truth, such as small objects; its conditions are their names."""


@dataclass(frozen=True)
class Cell:
    """The scores of one candidate in one situation."""

    candidate: str
    family: str
    condition: str
    severity: int | None
    """0 for clean images, 1 to 5 under stress, None for a mean over severities."""
    images: int
    """Number of source images behind the scores."""
    values: Mapping[str, float]
    """Scores by name."""
    samples: Mapping[str, Float64[Tensor, "resamples"]]
    """The same scores under each draw of units; cells with equally many units share the draws."""


def score_all(
    problem: Problem,
    units: Int64[Tensor, "images"],
    draws: UInt8[Tensor, "resamples units"],
    parts: Sequence[Tensors],
) -> Tensors:
    """Score each candidate from the tallies of all batches.

    Args:
        problem: Problem that defines the scores.
        units: Number of each image's unit (`temper.maths.statistics`).
        draws: Draws of these units.
        parts: Tallies of each batch, by candidate.

    Returns:
        `<candidate>/<score>`: the value, followed by its samples.
    """
    found = {}
    for name in parts[0]:
        tallies = torch.cat([part[name] for part in parts])
        values, samples = _score(problem, sum_units(tallies, units), draws)
        for metric, drawn in samples.items():
            found[f"{name}/{metric}"] = torch.cat([torch.tensor([values[metric]], dtype=drawn.dtype), drawn])
    return found


def stressed_cells(scored: Tensors, condition: Condition, severity: int, images: int) -> list[Cell]:
    """Make one cell per candidate from the result of `score_all`."""
    by_candidate: dict[str, dict[str, Tensor]] = {}
    for key, found in scored.items():
        name, metric = key.split("/")
        by_candidate.setdefault(name, {})[metric] = found
    cells = []
    for name, scores in by_candidate.items():
        values = {metric: float(found[0]) for metric, found in scores.items()}
        samples = {metric: found[1:] for metric, found in scores.items()}
        cells.append(Cell(name, condition.family, condition.name, severity, images, values, samples))
    return cells


def clean_cells(
    problem: Problem,
    tallies: Mapping[str, Float64[Tensor, "images counts"]],
    strata: Sequence[frozenset[str]],
    units: Int64[Tensor, "images"],
    subset: Int64[Tensor, "stressed"],
    params: EvaluateParams,
    seed: int,
) -> list[Cell]:
    """Score all clean images, the subset that will be stressed, and each stratum (only the headline)."""
    members: dict[str, list[int]] = {}
    for number, names in enumerate(strata):
        for name in names:
            members.setdefault(name, []).append(number)
    situations = [(CLEAN, CLEAN, torch.arange(len(strata))), (CLEAN, SUBSET, subset)]
    situations += [(STRATUM, name, torch.tensor(members[name])) for name in sorted(members)]
    headline = problem.headline.name
    cells = []
    for family, condition, keys in situations:
        draws = draw(len(units[keys].unique()), resamples=params.bootstrap, seed=derive(seed, "bootstrap"))
        for name, found in tallies.items():
            values, samples = _score(problem, sum_units(found[keys], units[keys]), draws)
            if family == STRATUM:
                values, samples = {headline: values[headline]}, {headline: samples[headline]}
            cells.append(Cell(name, family, condition, 0, len(keys), values, samples))
    return cells


def part_cells(
    problem: Problem,
    tallies: Mapping[str, Mapping[str, Float64[Tensor, "images counts"]]],
    units: Int64[Tensor, "images"],
    params: EvaluateParams,
    seed: int,
) -> list[Cell]:
    """Score the parts of the truth on all clean images (only the headline).

    Args:
        problem: Problem that defines the scores.
        tallies: Candidate -> part -> tallies.
        units: Number of each image's unit.
        params: How often units are drawn.
        seed: Seed of the run.
    """
    draws = draw(len(units.unique()), resamples=params.bootstrap, seed=derive(seed, "bootstrap"))
    headline, cells = problem.headline.name, []
    for name, parts in tallies.items():
        for part, found in parts.items():
            values, samples = _score(problem, sum_units(found, units), draws)
            own = {headline: values[headline]}, {headline: samples[headline]}
            cells.append(Cell(name, PART_OF_TRUTH, part, 0, len(found), *own))
    return cells


def _score(
    problem: Problem, tallies: Float64[Tensor, "units counts"], draws: UInt8[Tensor, "resamples units"]
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return the scores of some units, and the same scores under each draw of them."""
    values = {name: float(value) for name, value in problem.score(tallies.sum(dim=0)).items()}
    return values, dict(problem.score(resample(draws, tallies)))


def means(cells: Sequence[Cell], families: Sequence[str]) -> list[Cell]:
    """Average over the conditions of a family: at each severity, and over all severities (severity None)."""
    found = []
    for candidate in dict.fromkeys(cell.candidate for cell in cells):
        for family in families:
            ours = [cell for cell in cells if cell.candidate == candidate and cell.family == family]
            for severity in (*SEVERITIES, None):
                if group := [cell for cell in ours if severity in (None, cell.severity)]:
                    values = {name: fmean(cell.values[name] for cell in group) for name in group[0].values}
                    samples = {
                        name: torch.stack([cell.samples[name] for cell in group]).mean(dim=0)
                        for name in values
                    }
                    named = replace(
                        group[0], condition=MEAN, severity=severity, values=values, samples=samples
                    )
                    found.append(named)
    return found
