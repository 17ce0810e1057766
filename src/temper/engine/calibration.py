"""How sure a network should be: one temperature, fitted on the validation split."""

from collections.abc import Sequence

import torch
from torch import Tensor

from temper.problem import Emphasis, Outputs, Problem, Targets

_LOWEST, _HIGHEST = 0.05, 20.0


def fit_temperature(problem: Problem, outputs: Sequence[Outputs], targets: Sequence[Targets]) -> float:
    """The temperature that makes a network's outputs least wrong on examples it was not trained on.

    Golden-section search over the logarithm of the temperature; the loss has one valley there. The truth is smoothed as little as its
    number of examples allows: without that, a network that is right about all of them would be made as sure as can be (0.05), and so
    would whoever learns from it.

    Args:
        problem: Knows the loss and how outputs are softened.
        outputs: Of the network, batch by batch.
        targets: The truth, batch by batch.

    Returns:
        Between 0.05 and 20; above 1 where the network is too sure of itself.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 4.2; smoothed targets: Platt 1999, "Probabilistic outputs for support vector machines",
        section 2.2 (n right answers of n make the next one right with probability (n + 1) / (n + 2)).
    """
    count = sum(len(next(iter(true.values()))) for true in targets)
    emphasis = Emphasis(smoothing=1 / (count + 2))

    def wrong(log_temperature: float) -> float:
        temperature = float(torch.tensor(log_temperature).exp())
        losses: list[Tensor] = [
            problem.loss(problem.soften(said, temperature), true, emphasis).double()
            for said, true in zip(outputs, targets, strict=True)
        ]
        return float(torch.cat(losses).mean())

    low, high = float(torch.tensor(_LOWEST).log()), float(torch.tensor(_HIGHEST).log())
    golden = (5**0.5 - 1) / 2
    while high - low > 1e-3:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if wrong(left) < wrong(right):
            high = right
        else:
            low = left
    return round(float(torch.tensor((low + high) / 2).exp()), 4)
