"""Test whether an int8 network is as good as its float parent, on the validation split.

The test is the gate's non-inferiority test. Two values must hold, each with a one-sided bound over resampled
images: the headline score and the mean error of the answers. People read the score, but on few images it
moves in steps. The error moves with every probability and shows drift much earlier.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from temper.compress.params import QuantizeParams
from temper.data.dataset.packed import as_targets
from temper.gate.significance import Difference, difference
from temper.inputs.facts import Facts, count_examples, count_values
from temper.maths.batching import fit_batch, rows_of
from temper.maths.statistics import draw, resample, sum_units
from temper.networks.onnx_model import PART, Deployed
from temper.problem import Answer, Problem

_BATCH = 512
_RESAMPLES = 1000
_RULE_OF_THREE = 3
"""Number of units in the smallest margin: if none of n images gets worse, a share of up to 3 / n may still do
so, with 95 % confidence. No split of n images, or of n groups of images, can show less."""


@dataclass(frozen=True)
class Measured:
    """The answers of a file on the validation split."""

    answers: list[dict[str, Tensor]]
    """Answers of each batch, with small whole numbers; empty for files that are compared with a parent."""
    gaps: Tensor
    """Difference of each answer from the parent's, 0 to 1, [images]; empty for the parent."""
    tallies: Tensor
    """Counts that each image adds to the scores, [images, counts]."""
    errors: Tensor
    """Error of each answer, 0 to 1, [images]."""


@dataclass(frozen=True)
class Held:
    """Result of comparing an int8 file with its float parent."""

    score: Difference
    error: Difference
    """Difference of 1 minus the mean error."""
    values: tuple[float, float]
    """Headline score of the parent and of the int8 file."""
    gap: float
    """Mean over the images of the largest difference between the two files' answers."""
    margin: float
    """Largest allowed loss, of the score and of 1 minus the mean error."""

    @property
    def holds(self) -> bool:
        """Whether the int8 file was shown to lose no more than the margin."""
        # Comparisons with NaN say nothing about quality, so answers that are not finite never hold.
        if not math.isfinite(self.error.value):
            return False
        return self.score.low >= -self.margin and self.error.low >= -self.margin

    def describe(self, headline: str) -> str:
        """Return the measured values as text."""
        return (
            f"{headline} {self.values[0]:.4f} -> {self.values[1]:.4f} (at least {self.score.low:+.4f}), "
            f"mean error {-self.error.value:+.4f} (at most {-self.error.low:+.4f}), allowed {self.margin:.4f}"
        )


class Comparison:
    """Compares int8 files with one float parent.

    Args:
        parent: File of the float student.
        problem: Problem that the files answer.
        columns: Truth and inputs of the validation split.
        facts: The inputs among the columns.
        params: Parameters with the number of images, the margin and the confidence.
        seed: Seed for choosing and resampling the images.
        units: Number of the unit of each image, which the bootstrap draws; None if each image is one.
    """

    def __init__(
        self,
        parent: Path,
        problem: Problem,
        columns: Mapping[str, np.ndarray],
        facts: Facts,
        params: QuantizeParams,
        *,
        seed: int,
        units: Int64[Tensor, "images"] | None = None,
    ) -> None:
        chosen = np.random.default_rng(seed).permutation(count_examples(columns))
        chosen = np.sort(chosen[: params.check_images])
        self._problem, self._params = problem, params
        self._columns, self._facts, self._chosen = columns, facts, chosen
        self._units = torch.from_numpy(chosen) if units is None else units[torch.from_numpy(chosen)]
        self._num_units = len(self._units.unique())
        self._draws = draw(self._num_units, resamples=_RESAMPLES, seed=seed)
        self._batch, self._part = (fit_batch([count_values(facts)], most) for most in (_BATCH, PART))
        self._parent = self._measure(parent)

    def __len__(self) -> int:
        return len(self._chosen)

    def ask(self, file: Path) -> Held:
        """Compare a file with the parent."""
        params, headline = self._params, self._problem.headline
        ours = self._measure(file, self._parent)
        scores = [self._score(measured.tallies) for measured in (ours, self._parent)]
        errors = [self._error(measured.errors) for measured in (ours, self._parent)]
        return Held(
            score=difference(
                *scores, greater_is_better=headline.greater_is_better, confidence=params.confidence
            ),
            error=difference(*errors, greater_is_better=False, confidence=params.confidence),
            values=(scores[1][0], scores[0][0]),
            gap=float(ours.gaps.mean()),
            margin=max(params.max_drop, _RULE_OF_THREE / self._num_units),
        )

    def drift(self, file: Path, images: int) -> float:
        """Return the mean difference of a file's answers from the parent's, on the first images."""
        deployed, found = Deployed(file, part=self._part), []
        for number, start in enumerate(range(0, min(images, len(self)), self._batch)):
            stop = min(start + self._batch, images, len(self))
            answer = _compact(deployed(self._inputs(self._chosen[start:stop])))
            parent = {name: value[: stop - start] for name, value in self._parent.answers[number].items()}
            found.append(self._problem.gap(answer, parent))
        return float(torch.cat(found).mean())

    def _measure(self, file: Path, parent: Measured | None = None) -> Measured:
        """Measure a file, and compare it with the parent; only the answers of the parent itself are kept."""
        deployed = Deployed(file, part=self._part)
        answers, gaps, tallies, errors = [], [], [], []
        for number, start in enumerate(range(0, len(self), self._batch)):
            rows = self._chosen[start : start + self._batch]
            answer = deployed(self._inputs(rows))
            truth = as_targets({name: column[rows] for name, column in self._columns.items()}, self._facts)
            targets = rows_of(truth, slice(None))
            tallies.append(self._problem.tally(answer, targets).double())
            errors.append(self._problem.error(answer, targets).double())
            if parent is None:
                answers.append(_compact(answer))
            else:
                gaps.append(self._problem.gap(answer, parent.answers[number]))
        return Measured(
            answers, torch.cat(gaps) if gaps else torch.empty(0), torch.cat(tallies), torch.cat(errors)
        )

    def _inputs(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return {name: self._columns[name][rows] for name in self._facts}

    def _score(self, tallies: Tensor) -> tuple[float, np.ndarray]:
        name = self._problem.headline.name
        whole = self._problem.score(tallies.sum(dim=0))[name]
        drawn = resample(self._draws, sum_units(tallies, self._units))
        return float(whole), self._problem.score(drawn)[name].double().numpy()

    def _error(self, errors: Tensor) -> tuple[float, np.ndarray]:
        counted = torch.stack([errors, torch.ones_like(errors)], dim=1)
        total, count = resample(self._draws, sum_units(counted, self._units)).unbind(dim=1)
        return float(errors.mean()), (total / count).numpy()


def _compact(answer: Answer) -> dict[str, Tensor]:
    """Store whole numbers in one or two bytes: the class maps of a whole split are kept."""
    return {
        name: value
        if value.is_floating_point()
        else value.to(
            torch.uint8 if not value.numel() or 0 <= value.min() <= value.max() < 256 else torch.int16
        )
        for name, value in answer.items()
    }
