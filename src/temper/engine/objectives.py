"""Objectives: what a network is trained for, as `(network, batch) -> {"loss": ..., "<term>": ...}`.

For the training loop, the objective is the only difference between a teacher and a distilled student.
"""

import torch
from torch import Tensor, nn

from temper.problem import Batch, Emphasis, Objective, Outputs, Problem


def supervised(problem: Problem, emphasis: Emphasis) -> Objective:
    """Return the objective of supervised training: predict the targets."""

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
    """Return the objective of distillation: predict the targets, and match the teacher on the same view.

    Args:
        problem: Problem of both networks.
        teacher: Teacher network, frozen and in evaluation mode.
        emphasis: Emphasis of the supervised term.
        share: Weight of the distillation term, 0..1; the supervised term has the rest.
        temperature: Temperature that softens both sides of the distillation term.
        teacher_temperature: Calibration temperature of the teacher, which softens the teacher's outputs
            first.
        standardized: Whether to compare standardised outputs as far as they can distinguish outputs, and
            calibrated outputs for the rest. Standardised outputs have no scale. With few classes they carry
            little information (with two classes, none), and they let the student's scale grow without limit.
            Each comparison is therefore weighted by the share of directions that it sees.

    Source:
        Hinton, Vinyals and Dean 2015, arXiv:1503.02531. Standardised outputs: Sun et al. 2024,
        arXiv:2403.01427. Same view for teacher and student: Beyer et al. 2022, arXiv:2106.05237.
    """
    kept = problem.standardized_share if standardized else 0.0

    def objective(network: nn.Module, batch: Batch) -> dict[str, Tensor]:
        outputs = network(batch.inputs)
        with torch.no_grad():
            wanted = problem.soften(problem.ask_teacher(teacher, batch.inputs, outputs), teacher_temperature)
        distance = (
            teaching_distance(problem, outputs, wanted, temperature=temperature, kept=kept) * batch.weights
        ).mean()
        truth = weighted_loss(problem, outputs, batch, emphasis)
        return {"loss": share * distance + (1 - share) * truth, "distance": distance, "truth": truth}

    return objective


def teaching_distance(
    problem: Problem, outputs: Outputs, wanted: Outputs, *, temperature: float, kept: float
) -> Tensor:
    """Return the distance of the student's outputs from the teacher's, per example, shape [batch].

    Args:
        problem: Problem that defines how outputs are compared and standardised.
        outputs: Outputs of the student.
        wanted: Calibrated outputs of the teacher.
        temperature: Temperature that softens both sides.
        kept: Weight of the comparison of standardised outputs, 0..1; the comparison of the plain outputs has
            the rest.
    """
    parts: list[Tensor] = []
    if kept > 0:
        standard = problem.standardize(outputs), problem.standardize(wanted)
        parts.append(kept * problem.distance(*standard, temperature=temperature))
    if kept < 1:
        parts.append((1 - kept) * problem.distance(outputs, wanted, temperature=temperature))
    return torch.stack(parts).sum(dim=0)


def weighted_loss(problem: Problem, outputs: Outputs, batch: Batch, emphasis: Emphasis) -> Tensor:
    """Return the mean loss of a batch.

    Each example counts by its weight, and mixed examples by their shares.
    """
    loss = problem.loss(outputs, batch.targets, emphasis)
    if batch.others is not None:
        assert batch.shares is not None
        loss = batch.shares * loss + (1 - batch.shares) * problem.loss(outputs, batch.others, emphasis)
    return (loss * batch.weights).mean()
