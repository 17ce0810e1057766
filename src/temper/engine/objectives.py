"""Objectives: what a network is trained for. `(network, batch) -> {"loss": ..., "<term>": ...}`.

The training loop knows no other difference between training a teacher and distilling a student.
"""

import torch
from torch import Tensor, nn

from temper.problem import Batch, Emphasis, Objective, Outputs, Problem


def supervised(problem: Problem, emphasis: Emphasis) -> Objective:
    """Be right about the truth."""

    def objective(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        return {"loss": weighted_loss(problem, network(batch.inputs), batch, emphasis)}

    return objective


def distilled(
    problem: Problem,
    teacher: nn.Module,
    emphasis: Emphasis,
    *,
    share: float,
    temperature: float,
    teacher_temperature: float,
    standardized: bool,
) -> Objective:
    """Be right about the truth, and say what the teacher says of the same view.

    Args:
        problem: What is asked.
        teacher: Frozen, in evaluation mode.
        emphasis: Of the supervised term.
        share: Weight of the distillation term, 0..1; the supervised term has the rest.
        temperature: Softens both sides of the distillation term.
        teacher_temperature: The teacher's own calibration; its outputs are softened by it first.
        standardized: Compare z-scored outputs. These are free of scale, so the calibration only matters without it.

    Source:
        Hinton, Vinyals and Dean 2015, arXiv:1503.02531; standardised: Sun et al. 2024, arXiv:2403.01427; same view
        for both: Beyer et al. 2022, arXiv:2106.05237.
    """

    def objective(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = network(batch.inputs)
        with torch.no_grad():
            wanted = problem.soften(teacher(batch.inputs), teacher_temperature)
        said: Outputs = outputs
        if standardized:
            said, wanted = problem.standardize(outputs), problem.standardize(wanted)
        distance = (problem.distance(said, wanted, temperature=temperature) * batch.weights).mean()
        truth = weighted_loss(problem, outputs, batch, emphasis)
        return {"loss": share * distance + (1 - share) * truth, "distance": distance, "truth": truth}

    return objective


def weighted_loss(problem: Problem, outputs: Outputs, batch: Batch, emphasis: Emphasis) -> Tensor:
    """The mean loss of a batch, each example counted by its weight, mixed examples by their shares."""
    loss = problem.loss(outputs, batch.targets, emphasis)
    if batch.others is not None:
        assert batch.shares is not None
        loss = batch.shares * loss + (1 - batch.shares) * problem.loss(outputs, batch.others, emphasis)
    return (loss * batch.weights).mean()
