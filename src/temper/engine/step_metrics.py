"""Journal values of a training step; the training loop decides when they are written."""

from collections.abc import Mapping

import torch
from torch import Tensor

from temper.engine.distributed.ranks import Ranks
from temper.engine.train_state import State


def mean_terms(terms: Mapping[str, Tensor], ranks: Ranks) -> dict[str, float]:
    """Return the terms of an objective, at least one, as means over the ranks."""
    means = ranks.sum(torch.stack([value.double() for value in terms.values()])) / ranks.num
    return {f"train/{name}": value for name, value in zip(terms, means.tolist(), strict=True)}


def state_values(state: State, parts: int) -> dict[str, float]:
    """Return skipped steps, clipped share, loss scale and number of parts, each only where it applies.

    Args:
        state: State of the training after the step.
        parts: Number of parts into which a batch is split.
    """
    values: dict[str, float] = {}
    if state.skipped:
        values["train/skipped"] = state.skipped
    if state.clipped:
        values["train/clipped_share"] = state.clipped_share
    if state.mode is not None and state.mode.precision == "fp16":
        values["train/loss_scale"] = state.loss_scale
    if parts > 1:
        values["train/accumulation"] = parts
    return values
