"""distill: the student, by the same loop as the teacher with another objective."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from torch import nn

from temper.artifacts import Artifact
from temper.compress.params import DistillationTerms
from temper.engine.distributed.ranks import Ranks
from temper.engine.objectives import distilled
from temper.problem import Emphasis, Objective, Problem
from temper.stages.fit_network import MakeObjective, train_network
from temper.stages.load_trained import read_network


def run(
    params: SimpleNamespace,
    inputs: Mapping[str, Artifact],
    out: Path,
    *,
    project: Path,
    work: Path,
    checkpoints: Path,
) -> dict[str, Any]:
    """Train the student to say what the calibrated teacher says of the same views."""
    teacher = read_network(inputs["train"], inputs["prepare"])
    make_objective = learn_from(
        teacher, params.distill.terms, temperature=inputs["train"].facts["temperature"]
    )
    return train_network(
        "distill",
        params.distill,
        make_objective,
        inputs,
        out,
        seed=params.seed,
        project=project,
        work=work,
        checkpoints=checkpoints,
        teacher=inputs["train"].facts["scores"],
    )


def learn_from(teacher: nn.Module, terms: DistillationTerms, *, temperature: float) -> MakeObjective:
    """How the student's objective is made.

    Args:
        teacher: Frozen, in evaluation mode.
        terms: What the student is asked for.
        temperature: The teacher's own calibration.
    """

    def make_objective(problem: Problem, emphasis: Emphasis, ranks: Ranks) -> Objective:
        return distilled(
            problem,
            teacher.to(ranks.device),
            emphasis,
            share=terms.share,
            temperature=terms.temperature,
            teacher_temperature=temperature,
            standardized=terms.logits == "z-scored",
        )

    return make_objective
