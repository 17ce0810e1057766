"""Guards a training against steps that would ruin it.

Steps whose numbers are not finite are skipped, and leave no trace in the network. Gradients whose norm is too large are shortened,
so that one odd batch, or a rate a little too high, does not throw the weights far away.

What becomes of a step is decided alike on all ranks: gradients are the same everywhere, and each rank's loss is asked about.
It costs one wait for the device a step, since what comes next depends on the answer; the norm is computed once, for both questions.

What is too large is measured by the training itself: norms of healthy trainings lie between 0.1 and 130, by network and moment, but
within two and a half times their running mean (`docs/log.md`), so no number fits all and four times that mean leaves all of them alone.

Source:
    Clipping by the norm of all gradients: Pascanu, Mikolov and Bengio 2013, arXiv:1211.5063, section 3.2; by the norms seen so far:
    Seetharaman et al. 2020, arXiv:2007.14469.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from temper.engine.distributed.ranks import Ranks

MOST_TURNS = 2
"""How often a training goes back to a good checkpoint before it gives up."""
_SHOWN_IDS = 8
_LONG = 4.0
"""Gradients longer than so many running means are shortened to that."""
_LEAP = 10.0
"""So many times itself a mean takes in at most: one odd batch hardly moves it, and it follows layers that thaw within some ten steps."""
_REMEMBERED = 50
"""Steps that the running mean spans."""


def longest(asked: float | Literal["auto"], mean: float) -> float:
    """How long the gradients of a step may be; infinity for any length.

    Args:
        asked: As `fit.max_grad_norm` says.
        mean: Running mean of the norms; 0 before the first step.

    Example:
        >>> longest("auto", 2.0), longest("auto", 0.0), longest(3.0, 2.0), longest(0.0, 2.0)
        (8.0, inf, 3.0, inf)
    """
    return (_LONG * mean if asked == "auto" else asked) or math.inf


def follow(mean: float, norm: float, step: int) -> float:
    """The running mean of the norms, after one more of them: a plain mean at first, then of the last fifty steps or so.

    Args:
        mean: Before; 0 if there is none yet.
        norm: Of a good step.
        step: How many came before it.
    """
    if not mean:
        return norm
    return mean + (min(norm, _LEAP * mean) - mean) * max(1 / (step + 1), 1 / _REMEMBERED)


@dataclass(frozen=True)
class Verdict:
    """What the guard says of a step; the same on every rank."""

    good: bool
    """Whether loss and gradients are finite on every rank; a step that is not must be left out."""
    norm: float
    """Of all gradients, before they were shortened."""
    clipped: bool
    """Whether they were."""


class Guard:
    """Judges the steps of a network.

    Args:
        network: Whose buffers (running statistics) a bad step must not change; the forward pass changes them before it can be judged.
        ranks: Those that train it.
    """

    def __init__(self, network: nn.Module, ranks: Ranks) -> None:
        self._buffers = list(network.buffers())
        self._before = [value.clone() for value in self._buffers]
        self._parameters = [value for value in network.parameters() if value.requires_grad]
        self._ranks = ranks

    @torch.no_grad()
    def remember(self) -> None:
        """Before a step: what a bad one is taken back to."""
        for before, value in zip(self._before, self._buffers, strict=True):
            before.copy_(value)

    @torch.no_grad()
    def judge(self, loss: Tensor, *, max_norm: float) -> Verdict:
        """After a backward pass: what to do with the step. Buffers of a bad one are taken back, gradients of a long one shortened.

        Args:
            loss: This rank's.
            max_norm: To which gradients are shortened, all together.
        """
        gradients = [value.grad for value in self._parameters if value.grad is not None]
        norms = nn.utils.get_total_norm(gradients, foreach=True)
        bad = ~(torch.isfinite(loss.detach()) & torch.isfinite(norms))
        # The mean over ranks, so that all come to the same to the last bit.
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
        """Whether the weights are."""
        return all(bool(value.isfinite().all()) for value in [*self._parameters, *self._buffers])


def give_up(step: int, epoch: float, num_bad: int, ids: Sequence[str], lr: float) -> ValueError:
    """The error of a training that going back did not help.

    Args:
        step: The first of the bad steps.
        epoch: Its epoch.
        num_bad: How many in a row were bad.
        ids: Of the examples in its batch.
        lr: As the parameters say.
    """
    shown = ", ".join(ids[:_SHOWN_IDS]) + (
        f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else ""
    )
    return ValueError(
        f"the loss or its gradient was not finite in {num_bad} steps in a row, from step {step} (epoch {epoch:.2f}) on, also after "
        f"going back {MOST_TURNS} times with half the learning rate; the batch of step {step} holds {shown}; lower fit.lr "
        f"(now {lr}), or look at these examples, and run again"
    )
