"""What of a step goes into the journal; apart from the loop, which only says when."""

from collections.abc import Mapping

import torch
from torch import Tensor

from temper.engine.distributed.ranks import Ranks
from temper.engine.train_state import State


def mean_terms(terms: Mapping[str, Tensor], ranks: Ranks) -> dict[str, float]:
    """The terms of an objective, at least one, as their means over the ranks."""
    means = ranks.sum(torch.stack([value.double() for value in terms.values()])) / ranks.num
    return {f"train/{name}": value for name, value in zip(terms, means.tolist(), strict=True)}


def state_values(state: State, parts: int) -> dict[str, float]:
    """What else there is to say of a training; nothing of one in which nothing happened.

    Args:
        state: After the step.
        parts: Into how many a batch is cut.
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
