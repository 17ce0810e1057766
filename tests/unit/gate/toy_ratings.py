"""Ratings of imaginary models, of which only the correct answers are known."""

from collections.abc import Mapping

import numpy as np
import torch

from temper.gate.rating import CLEAN, MEAN, STRATUM, CellKey, Question, Rating
from temper.maths.statistics import draw, resample

QUESTION = Question("multiclass", ("coat", "shirt"), "accuracy", True)
IMAGES, DRAWS = 2000, 400


def rating(
    model: str,
    accuracy: float,
    *,
    stress: Mapping[tuple[str, str, int], float] | None = None,
    seed: int = 0,
    question: Question = QUESTION,
    costs: Mapping[str, float] | None = None,
) -> Rating:
    """Rate a model that answers a share of the images correctly.

    Models of the same seed are right on the same images, as far as their accuracies allow.
    """
    chances = np.random.default_rng(seed).random(IMAGES)
    draws = draw(IMAGES, resamples=DRAWS, seed=0)
    shirts = np.arange(IMAGES) % 2 == 1
    situations = {(CLEAN, CLEAN, 0): accuracy, **(stress or {})}
    cells, values, samples = [], [], []

    def add(cell: CellKey, right: np.ndarray, counted: np.ndarray) -> None:
        tally = torch.from_numpy(np.stack([right & counted, counted], axis=1).astype(np.float64))
        drawn = resample(draws, tally)
        cells.append(cell)
        values.append((right & counted).sum() / counted.sum())
        samples.append((drawn[:, 0] / drawn[:, 1]).numpy())

    everything = np.ones(IMAGES, bool)
    for (family, condition, severity), share in situations.items():
        add(CellKey(family, condition, severity, question.headline), chances < share, everything)
    for name, counted in (("coat", ~shirts), ("shirt", shirts)):
        add(CellKey(STRATUM, name, 0, question.headline), chances < accuracy, counted)
    for family in {family for family, _, _ in stress or {}}:
        ours = [number for number, cell in enumerate(cells) if cell.family == family]
        values.append(float(np.mean([values[number] for number in ours])))
        samples.append(np.mean([samples[number] for number in ours], axis=0))
        cells.append(CellKey(family, MEAN, None, question.headline))
    return Rating(
        model=model,
        measured_on="toys",
        question=question,
        cells=tuple(cells),
        values=np.array(values),
        samples=np.stack(samples),
        alone=(chances < accuracy).astype(np.float64),
        costs={"bytes": 1000.0} if costs is None else costs,
    )
