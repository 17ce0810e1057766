"""distill: train the student with the teacher's training loop and a distillation objective."""

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
    """Train the student to give the calibrated teacher's answers on the same views."""
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
    """Return the function that makes the student's objective.

    Args:
        teacher: Frozen teacher in evaluation mode.
        terms: Terms of the student's loss.
        temperature: Temperature that calibrates the teacher.
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
