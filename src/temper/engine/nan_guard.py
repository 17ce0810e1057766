"""Protects a training from steps that would ruin it.

Steps whose loss or gradient is not finite are skipped and leave no trace in the network. Gradients whose norm
is too large are clipped, so that one unusual batch, or a slightly too high learning rate, cannot change the
weights much.

All ranks make the same decision about a step: gradients are the same on every rank, and the loss of every
rank is checked. This costs one synchronisation with the device per step, because the next action depends on
the result. The norm is computed once and used for both checks.

The limit on the norm adapts to the training. The norms of healthy trainings lie between 0.1 and 130,
depending on the network and on the progress of the training, but within two and a half times their running
mean (`docs/log.md`). No fixed limit fits all trainings, but a limit of four times the running mean clips no
healthy one.

Source:
    Clipping by the norm of all gradients: Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, section 3.2.
    Clipping by the norms seen so far: Seetharaman et al. 2020, arXiv:2007.14469.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from temper.engine.distributed.ranks import Ranks

MOST_TURNS = 2
"""How often a training goes back to a good checkpoint before it fails."""
_SHOWN_IDS = 8
_LONG = 4.0
"""With `auto`, gradients are clipped to this many times the running mean of their norms."""
_LEAP = 10.0
"""A norm enters the running mean as at most this many times the mean. One unusual batch therefore hardly
moves the mean, but the mean follows layers that are unfrozen within about ten steps."""
_REMEMBERED = 50
"""Number of steps that the running mean spans."""


def longest(asked: float | Literal["auto"], mean: float) -> float:
    """Return the largest allowed norm of the gradients of a step; infinity means no limit.

    Args:
        asked: Value of `fit.max_grad_norm`.
        mean: Running mean of the norms; 0 before the first step.

    Example:
        >>> longest("auto", 2.0), longest("auto", 0.0), longest(3.0, 2.0), longest(0.0, 2.0)
        (8.0, inf, 3.0, inf)
    """
    return (_LONG * mean if asked == "auto" else asked) or math.inf


def follow(mean: float, norm: float, step: int) -> float:
    """Return the running mean of the norms after one more norm.

    At first it is the plain mean, later the mean of about the last fifty steps.

    Args:
        mean: Running mean so far; 0 if there is none yet.
        norm: Norm of a good step.
        step: Number of steps before this one.
    """
    if not mean:
        return norm
    return mean + (min(norm, _LEAP * mean) - mean) * max(1 / (step + 1), 1 / _REMEMBERED)


@dataclass(frozen=True)
class Verdict:
    """Verdict of the guard on a step; the same on every rank."""

    good: bool
    """Whether loss and gradients are finite on every rank. A step that is not good must be skipped."""
    norm: float
    """Norm of all gradients together, before clipping."""
    clipped: bool
    """Whether the gradients were clipped."""


class Guard:
    """Checks the training steps of a network.

    Args:
        network: Network to guard. A bad step must not change its buffers (running statistics), but the
            forward pass changes them before the step can be checked.
        ranks: Ranks that train the network.
    """

    def __init__(self, network: nn.Module, ranks: Ranks) -> None:
        self._buffers = list(network.buffers())
        self._before = [value.clone() for value in self._buffers]
        self._parameters = [value for value in network.parameters() if value.requires_grad]
        self._ranks = ranks

    @torch.no_grad()
    def remember(self) -> None:
        """Store the buffers before a step, so that they can be restored if the step is bad."""
        for before, value in zip(self._before, self._buffers, strict=True):
            before.copy_(value)

    @torch.no_grad()
    def judge(self, loss: Tensor, *, max_norm: float) -> Verdict:
        """Check a step after its backward pass.

        The buffers are restored after a bad step. Gradients that are too long are clipped.

        Args:
            loss: Loss of this rank.
            max_norm: Norm to which all gradients together are clipped.
        """
        gradients = [value.grad for value in self._parameters if value.grad is not None]
        norms = nn.utils.get_total_norm(gradients, foreach=True)
        bad = ~(torch.isfinite(loss.detach()) & torch.isfinite(norms))
        # Take the mean over ranks, so that the norm is the same on all ranks to the last bit.
        num_bad, norm = (
            self._ranks.sum(torch.stack([bad.float(), norms.float()])) / self._ranks.num
        ).tolist()
        if num_bad:
            for value, before in zip(self._buffers, self._before, strict=True):
                value.copy_(before)
            return Verdict(good=False, norm=norm, clipped=False)
        clipped = norm > max_norm
        if clipped:
            torch._foreach_mul_(gradients, max_norm / norm)
        return Verdict(good=True, norm=norm, clipped=clipped)

    def finite(self) -> bool:
        """Return whether the trained weights and the buffers are finite."""
        return all(bool(value.isfinite().all()) for value in [*self._parameters, *self._buffers])


def give_up(step: int, epoch: float, num_bad: int, ids: Sequence[str], lr: float) -> ValueError:
    """Return the error of a training that does not recover by going back.

    Args:
        step: First of the bad steps.
        epoch: Epoch of this step.
        num_bad: Number of bad steps in a row.
        ids: Ids of the examples in the batch of this step.
        lr: Learning rate in the parameters.
    """
    shown = ", ".join(ids[:_SHOWN_IDS]) + (
        f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
    )
    return ValueError(
        f"fit.lr = {lr}: the loss or its gradient was not finite in {num_bad} steps in a row from "
        f"step {step} (epoch {epoch:.2f}) on, also after going back {MOST_TURNS} times with half the "
        f"learning rate; lower fit.lr, or check the examples in the batch of step {step} ({shown}), "
        "and run again"
    )
