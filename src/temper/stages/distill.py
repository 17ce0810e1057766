"""distill: the student, by the same loop as the teacher with another objective."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from temper.artifacts import Artifact
from temper.engine.objectives import distilled
from temper.engine.ranks import Ranks
from temper.problem import Emphasis, Objective, Problem
from temper.stages.trained import read_network
from temper.stages.training import train_network


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path, checkpoints: Path
) -> dict[str, Any]:
    """Train the student to say what the calibrated teacher says of the same views."""
    teacher = read_network(inputs["train"], inputs["prepare"])
    terms = params.distill.terms

    def make_objective(problem: Problem, emphasis: Emphasis, ranks: Ranks) -> Objective:
        return distilled(
            problem,
            teacher.to(ranks.device),
            emphasis,
            share=terms.share,
            temperature=terms.temperature,
            teacher_temperature=inputs["train"].facts["temperature"],
            standardized=terms.logits == "z-scored",
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
