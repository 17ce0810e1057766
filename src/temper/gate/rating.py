"""The rating of one model: its scores, the scores under each draw of images, and its costs.

Two models can be compared image by image through their ratings. Ratings of the same images under the same
draws are paired: the difference of a score under a draw is a draw of the difference. A rating is stored as
one safetensors file; equal measurements give equal bytes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from safetensors import SafetensorError
from safetensors.numpy import load, save

from temper.artifacts import write_atomically
from temper.gate.slices import Slice

_FACTS = "facts"
CLEAN, SUBSET, STRATUM, MEAN = "clean", "clean, stressed images only", "stratum", "mean"
"""Families and conditions that are not stress, named as in the table of scores."""


@dataclass(frozen=True)
class CellKey:
    """Which score it is: the situation in which it was measured, and its metric."""

    family: str
    condition: str
    severity: int | None
    metric: str

    @property
    def stressed(self) -> bool:
        """Whether the cell is one condition at one severity."""
        return self.family not in (CLEAN, STRATUM) and self.condition != MEAN and self.severity is not None


@dataclass(frozen=True)
class Question:
    """The task of a model: models that answer different questions cannot be compared."""

    kind: str
    classes: tuple[str, ...]
    headline: str
    greater_is_better: bool


@dataclass(frozen=True)
class Rating:
    """All measurements of one model."""

    model: str
    """SHA-256 of the model's file."""
    measured_on: str
    """Digest of the images, the conditions and the draws."""
    question: Question
    cells: tuple[CellKey, ...]
    values: Float64[np.ndarray, "cells"]
    samples: Float64[np.ndarray, "cells draws"] = field(repr=False)
    """Each score under each draw of source images."""
    alone: Float64[np.ndarray, "images"] = field(repr=False)
    """The headline of each clean test image by itself; NaN if a single image has no score."""
    costs: Mapping[str, float] = field(default_factory=dict)

    def find(self, metric: str, on: Slice) -> list[int]:
        """Return the numbers of the cells whose mean is the score of a slice; none if it was not measured."""
        ours = [number for number, cell in enumerate(self.cells) if cell.metric == metric]
        if on.stratum is not None:
            return self._where(ours, family=STRATUM, condition=on.stratum)
        if on.each:
            named = {"family": on.family, "condition": on.condition, "severity": on.severity}
            asked = {name: value for name, value in named.items() if value is not None}
            return [number for number in self._where(ours, **asked) if self.cells[number].stressed]
        if on.family:
            return self._where(ours, family=on.family, condition=MEAN, severity=on.severity)
        if on.condition:
            found = self._where(ours, condition=on.condition)
            wanted = [number for number in found if on.severity in (None, self.cells[number].severity)]
            return [number for number in wanted if self.cells[number].stressed]
        return self._where(ours, family=CLEAN, condition=CLEAN)

    def _where(self, among: Sequence[int], **asked: object) -> list[int]:
        return [
            number
            for number in among
            if all(getattr(self.cells[number], name) == value for name, value in asked.items())
        ]

    def score(self, numbers: Sequence[int]) -> tuple[float, Float64[np.ndarray, "draws"]]:
        """Return the mean of some cells, and the same mean under each draw."""
        return float(self.values[list(numbers)].mean()), self.samples[list(numbers)].mean(axis=0)


def write_rating(path: Path, rating: Rating) -> None:
    """Write a rating; the file is either complete or absent."""
    facts = {
        "model": rating.model,
        "measured_on": rating.measured_on,
        "question": vars(rating.question),
        "cells": [[cell.family, cell.condition, cell.severity, cell.metric] for cell in rating.cells],
        "costs": dict(rating.costs),
    }
    tensors = {name: np.ascontiguousarray(getattr(rating, name)) for name in ("values", "samples", "alone")}
    # All facts are in one key, because safetensors does not preserve the order of several keys.
    write_atomically(path, save(tensors, {_FACTS: json.dumps(facts, sort_keys=True)}))


def read_rating(path: Path) -> Rating:
    """Read a rating that `write_rating` wrote.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    try:
        content = path.read_bytes()
        header: dict[str, Any] = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])
        facts, tensors = json.loads(header["__metadata__"][_FACTS]), load(content)
        asked = facts["question"]
        return Rating(
            model=facts["model"],
            measured_on=facts["measured_on"],
            question=Question(**{**asked, "classes": tuple(asked["classes"])}),
            cells=tuple(CellKey(*cell) for cell in facts["cells"]),
            costs=facts["costs"],
            **{name: tensors[name] for name in ("values", "samples", "alone")},
        )
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise ValueError(
            f"{path} is missing or is not a complete rating ({error}); "
            "delete it and run the same command again"
        ) from error
