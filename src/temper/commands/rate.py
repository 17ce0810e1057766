"""Measure a registered model on the current test images, with the code that measures a run's own candidates.

This is no DVC stage, because the project's files do not determine which models are registered. A model is
measured once: the caller stores the rating under the digests of the model and of everything that decides what
is measured.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from temper import artifacts
from temper.artifacts import digest_file
from temper.config import load
from temper.gate.rating import write_rating
from temper.inputs.facts import Facts
from temper.inputs.stored import read_inputs
from temper.problem import Problem
from temper.problems.deployed_answer import read_answer
from temper.stages.holdout import make_ratings, open_test
from temper.stress.evaluation import evaluate

_MODEL = "model"


def rate(project: Path, file: Path, out: Path) -> None:
    """Measure a registered model on the project's current test split, under the current conditions.

    Args:
        project: Folder with params.yaml and the artifact of prepare.
        file: File of the registered model.
        out: File for the rating.

    Raises:
        ValueError: If the model does not answer the question that the project asks; names the difference.
    """
    params, prepare = load(project), artifacts.load("prepare", project / "artifacts" / "prepare")
    test = open_test(prepare)
    model = test.open(file)
    check_question(model.metadata, test.problem, test.examples.facts)
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = out.with_suffix(".parts")
    evaluation = evaluate(
        test.problem,
        {_MODEL: model},
        test.examples,
        targets=test.targets,
        strata=test.strata,
        units=test.units,
        params=params.evaluate,
        seed=params.seed,
        checkpoints=parts,
    )
    costs = {_MODEL: {"digest": digest_file(file), "bytes": file.stat().st_size}}
    ratings = make_ratings(evaluation, test.problem, prepare, params.evaluate, seed=params.seed, costs=costs)
    write_rating(out, ratings[_MODEL])
    shutil.rmtree(parts, ignore_errors=True)


def check_question(metadata: Mapping[str, str], problem: Problem, facts: Facts) -> None:
    """Refuse a model that does not answer the question that the project asks.

    Raises:
        ValueError: If kinds, classes or inputs differ; names the difference.
    """
    asked, answered = problem.kind, metadata.get("temper.kind")
    if answered != asked:
        raise ValueError(f"the model answers {answered}, the project asks {asked}")
    classes = json.loads(metadata.get("temper.classes", "[]"))
    if tuple(classes) != problem.classes:
        missing = [name for name in problem.classes if name not in classes]
        extra = [name for name in classes if name not in problem.classes]
        parts = [
            f"{verb} {', '.join(names)}" for verb, names in (("lacks", missing), ("adds", extra)) if names
        ]
        difference = " and ".join(parts) or "has the same classes in another order"
        raise ValueError(f"class lists differ: the model {difference}")
    measured, wanted = (
        {name: field.names for name, field in fields.items()}
        for fields in (read_answer(metadata), problem.answer)
    )
    if measured != wanted:
        raise ValueError(f"the model answers {measured}, the project asks for {wanted}")
    takes, has = (
        ", ".join(f"{name} ({each.needs})" for name, each in inputs.items())
        for inputs in (read_inputs(metadata), facts)
    )
    if takes != has:
        raise ValueError(f"the inputs differ: the model takes {takes}, the project has {has}")
