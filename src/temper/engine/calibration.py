"""Calibration of a network's confidence: one temperature, fitted on the validation split."""

from collections.abc import Sequence

import torch
from torch import Tensor

from temper.problem import PLAIN, Emphasis, Outputs, Problem, Targets

_LOWEST, _HIGHEST = 0.05, 20.0


def fit_temperature(problem: Problem, outputs: Sequence[Outputs], targets: Sequence[Targets]) -> float:
    """Return the temperature that minimises a network's loss on examples that it was not trained on.

    The method is golden-section search over the logarithm of the temperature, where the loss has a single
    minimum. Labels, if there are any, are smoothed as little as the number of examples allows. Without
    smoothing, a network that is right about all examples would get the lowest temperature (0.05) and be as
    confident as possible, and so would a student that learns from it.

    Args:
        problem: Problem that defines the loss and how outputs are softened.
        outputs: Outputs of the network, batch by batch.
        targets: Targets, batch by batch.

    Returns:
        A temperature between 0.05 and 20, above 1 if the network is too confident; 1 if softening changes
        nothing, since the outputs have no confidence.

    Source:
        Guo et al. 2017, arXiv:1706.04599, section 4.2. Smoothed labels: Platt 1999, "Probabilistic outputs
        for support vector machines", section 2.2 (n right answers of n make the next one right with
        probability (n + 1) / (n + 2)).
    """
    if all(
        torch.equal(value, output[name])
        for output in outputs
        for name, value in problem.soften(output, 2.0).items()
    ):
        return 1.0
    count = sum(len(next(iter(target.values()))) for target in targets)
    emphasis = Emphasis(smoothing=1 / (count + 2)) if "smoothing" in problem.emphases else PLAIN

    def mean_loss(log_temperature: float) -> float:
        temperature = float(torch.tensor(log_temperature).exp())
        losses: list[Tensor] = [
            problem.loss(problem.soften(output, temperature), target, emphasis).double()
            for output, target in zip(outputs, targets, strict=True)
        ]
        return float(torch.cat(losses).mean())

    low, high = float(torch.tensor(_LOWEST).log()), float(torch.tensor(_HIGHEST).log())
    golden = (5**0.5 - 1) / 2
    while high - low > 1e-3:
        left, right = high - golden * (high - low), low + golden * (high - low)
        if mean_loss(left) < mean_loss(right):
            high = right
        else:
            low = left
    return round(float(torch.tensor((low + high) / 2).exp()), 4)
