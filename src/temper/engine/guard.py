"""Guards a training against steps whose numbers are not finite: they are skipped, and leave no trace in the network.

Whether a step is bad is decided alike on all ranks: gradients are the same everywhere, and each rank's loss is asked about.
It costs one wait for the device a step, since what comes next depends on the answer.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from temper.engine.ranks import Ranks

MOST_TURNS = 2
"""How often a training goes back to a good checkpoint before it gives up."""
_SHOWN_IDS = 8


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
    def passes(self, loss: Tensor, norm: Tensor | None) -> bool:
        """After a backward pass: whether loss and gradients are finite on every rank; if not, buffers are taken back.

        Args:
            loss: This rank's.
            norm: Of all gradients, where it is known already.
        """
        if norm is None:
            gradients = [value.grad for value in self._parameters if value.grad is not None]
            norm = nn.utils.get_total_norm(gradients, foreach=True)
        bad = ~(torch.isfinite(loss.detach()) & torch.isfinite(norm))
        if float(self._ranks.sum(bad.float())) == 0:
            return True
        for value, before in zip(self._buffers, self._before, strict=True):
            value.copy_(before)
        return False

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
    shown = ", ".join(ids[:_SHOWN_IDS]) + (f" and {len(ids) - _SHOWN_IDS} more" if len(ids) > _SHOWN_IDS else "")
    return ValueError(
        f"the loss or its gradient was not finite in {num_bad} steps in a row, from step {step} (epoch {epoch:.2f}) on, also after "
        f"going back {MOST_TURNS} times with half the learning rate; the batch of step {step} holds {shown}; lower fit.lr "
        f"(now {lr}), set fit.max_grad_norm, or look at these examples, and run again"
    )
