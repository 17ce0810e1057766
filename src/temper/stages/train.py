"""train: train the teacher."""

from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from temper.artifacts import Artifact
from temper.engine.objectives import supervised
from temper.stages.fit_network import train_network


def run(
    params: SimpleNamespace,
    inputs: Mapping[str, Artifact],
    out: Path,
    *,
    project: Path,
    work: Path,
    checkpoints: Path,
) -> dict[str, Any]:
    """Train the teacher on the rebalanced training split; store its weights, curves and validation scores."""
    return train_network(
        "train",
        params.train,
        lambda problem, emphasis, ranks: supervised(problem, emphasis),
        inputs,
        out,
        seed=params.seed,
        project=project,
        work=work,
        checkpoints=checkpoints,
    )
