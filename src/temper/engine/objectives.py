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
        standardized: Compare standardised outputs as far as these can tell outputs apart, and calibrated ones for the rest.
            Standardised outputs are free of scale: with few classes they say little (with two, nothing), and they leave the
            student's scale to run away. So each comparison counts by the share of directions that it sees.

    Source:
        Hinton, Vinyals and Dean 2015, arXiv:1503.02531; standardised: Sun et al. 2024, arXiv:2403.01427; same view
        for both: Beyer et al. 2022, arXiv:2106.05237.
    """
    kept = problem.standardized_share if standardized else 0.0

    def objective(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = network(batch.inputs)
        with torch.no_grad():
            wanted = problem.soften(teacher(batch.inputs), teacher_temperature)
        distance = (
            teaching_distance(problem, outputs, wanted, temperature=temperature, kept=kept) * batch.weights
        ).mean()
        truth = weighted_loss(problem, outputs, batch, emphasis)
        return {"loss": share * distance + (1 - share) * truth, "distance": distance, "truth": truth}

    return objective


def teaching_distance(
    problem: Problem, outputs: Outputs, wanted: Outputs, *, temperature: float, kept: float
) -> Tensor:
    """How far the student's outputs lie from the teacher's, per example, shape [batch].

    Args:
        problem: Knows how outputs are compared and standardised.
        outputs: The student's.
        wanted: The teacher's, calibrated.
        temperature: Softens both sides.
        kept: Weight of the comparison of standardised outputs, 0..1; the outputs as they are have the rest.
    """
    parts: list[Tensor] = []
    if kept > 0:
        standard = problem.standardize(outputs), problem.standardize(wanted)
        parts.append(kept * problem.distance(*standard, temperature=temperature))
    if kept < 1:
        parts.append((1 - kept) * problem.distance(outputs, wanted, temperature=temperature))
    return torch.stack(parts).sum(dim=0)


def weighted_loss(problem: Problem, outputs: Outputs, batch: Batch, emphasis: Emphasis) -> Tensor:
    """The mean loss of a batch, each example counted by its weight, mixed examples by their shares."""
    loss = problem.loss(outputs, batch.targets, emphasis)
    if batch.others is not None:
        assert batch.shares is not None
        loss = batch.shares * loss + (1 - batch.shares) * problem.loss(outputs, batch.others, emphasis)
    return (loss * batch.weights).mean()
