"""Is an int8 network as good as its float parent? Asked of the validation split, by the gate's own non-inferiority.

Two things must hold, each with a one-sided bound over draws of images: the headline score, and the mean error of the answers. The score is
what people read, but on few images it moves in steps; the error moves with every probability and sees drift much earlier.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from temper.compress.params import QuantizeParams
from temper.data.dataset.packed import as_targets
from temper.gate.significance import Difference, difference
from temper.maths.statistics import draw, resample
from temper.networks.onnx_model import PART, Deployed
from temper.problem import Answer, Problem

_BATCH = 512
_RESAMPLES = 1000
_RULE_OF_THREE = 3
"""Images: where none of n was lost, as many as 3 / n may still be, with 95 % confidence; no split can show less."""


@dataclass(frozen=True)
class Measured:
    """What a file answered on the validation split."""

    answers: list[dict[str, Tensor]]
    """Batch by batch; whole numbers as int16."""
    tallies: Tensor
    """[images, counts]"""
    errors: Tensor
    """[images], 0 to 1"""


@dataclass(frozen=True)
class Held:
    """How an int8 file did against its float parent."""

    score: Difference
    error: Difference
    """Of 1 minus the mean error."""
    values: tuple[float, float]
    """Headline of the parent and of the int8 file."""
    gap: float
    """Mean over images of the largest difference of an answer."""
    margin: float

    @property
    def holds(self) -> bool:
        """Whether it was shown to lose no more than the margin."""
        # What is not a number compares with nothing: answers that hold any are no better than none.
        if not math.isfinite(self.error.value):
            return False
        return self.score.low >= -self.margin and self.error.low >= -self.margin

    def describe(self, headline: str) -> str:
        """What was measured, in words."""
        return (
            f"{headline} {self.values[0]:.4f} -> {self.values[1]:.4f} (at least {self.score.low:+.4f}), "
            f"mean error {-self.error.value:+.4f} (at most {-self.error.low:+.4f}), allowed {self.margin:.4f}"
        )


class Comparison:
    """Compares int8 files with one float parent.

    Args:
        parent: The float student's file.
        problem: What is asked.
        columns: The validation split, truth and images.
        params: How many images, which margin.
        seed: Of the draws.
    """

    def __init__(
        self,
        parent: Path,
        problem: Problem,
        columns: Mapping[str, np.ndarray],
        params: QuantizeParams,
        *,
        seed: int,
    ) -> None:
        chosen = np.random.default_rng(seed).permutation(len(columns["image"]))[: params.check_images]
        chosen = np.sort(chosen)
        self._problem, self._params = problem, params
        self._images = columns["image"][chosen]
        self._targets = as_targets({name: column[chosen] for name, column in columns.items()})
        self._draws = draw(len(chosen), resamples=_RESAMPLES, seed=seed)
        self._parent = self._measure(parent)

    def __len__(self) -> int:
        return len(self._images)

    def ask(self, file: Path) -> Held:
        """Measure a file against the parent."""
        params, headline = self._params, self._problem.headline
        ours = self._measure(file)
        scores = [self._score(measured.tallies) for measured in (ours, self._parent)]
        errors = [self._error(measured.errors) for measured in (ours, self._parent)]
        return Held(
            score=difference(
                *scores, greater_is_better=headline.greater_is_better, confidence=params.confidence
            ),
            error=difference(*errors, greater_is_better=False, confidence=params.confidence),
            values=(scores[1][0], scores[0][0]),
            gap=self.gap(ours),
            margin=max(params.max_drop, _RULE_OF_THREE / len(self)),
        )

    def drift(self, file: Path, images: int) -> float:
        """Mean difference of a file's answers from the parent's, on the first images."""
        deployed, found = Deployed(file, part=PART), []
        for number, start in enumerate(range(0, min(images, len(self)), _BATCH)):
            stop = min(start + _BATCH, images, len(self))
            answer = _compact(deployed(self._images[start:stop]))
            parent = {name: value[: stop - start] for name, value in self._parent.answers[number].items()}
            found.append(differences(answer, parent))
        return float(torch.cat(found).mean())

    def gap(self, measured: Measured) -> float:
        """Mean over images of the largest difference of an answer."""
        pairs = zip(measured.answers, self._parent.answers, strict=True)
        return float(torch.cat([differences(ours, theirs) for ours, theirs in pairs]).mean())

    def _measure(self, file: Path) -> Measured:
        deployed = Deployed(file, part=PART)
        answers, tallies, errors = [], [], []
        for start in range(0, len(self), _BATCH):
            part = slice(start, start + _BATCH)
            answer, targets = (
                deployed(self._images[part]),
                {name: value[part] for name, value in self._targets.items()},
            )
            tallies.append(self._problem.tally(answer, targets).double())
            errors.append(self._problem.error(answer, targets).double())
            answers.append(_compact(answer))
        return Measured(answers, torch.cat(tallies), torch.cat(errors))

    def _score(self, tallies: Tensor) -> tuple[float, np.ndarray]:
        name = self._problem.headline.name
        whole = self._problem.score(tallies.sum(dim=0))[name]
        return float(whole), self._problem.score(resample(self._draws, tallies))[name].double().numpy()

    def _error(self, errors: Tensor) -> tuple[float, np.ndarray]:
        return float(errors.mean()), (resample(self._draws, errors[:, None]).squeeze(1) / len(errors)).numpy()


def differences(said: Answer, wanted: Answer) -> Tensor:
    """Per image: the largest difference of a probability; for whole numbers (classes of pixels) the share that differs."""
    found = []
    for name, value in wanted.items():
        if value.is_floating_point():
            found.append((said[name] - value).abs().flatten(1).amax(dim=1))
        else:
            found.append((said[name] != value).flatten(1).float().mean(dim=1))
    return torch.stack(found).amax(dim=0).double()


def _compact(answer: Answer) -> dict[str, Tensor]:
    """Whole numbers in two bytes: a split's maps of classes are kept for every comparison."""
    return {
        name: value if value.is_floating_point() else value.to(torch.int16) for name, value in answer.items()
    }
