"""Measure a registered model on the current test images, with the code that measures a run's own candidates.

This is no DVC stage, because the project's files do not determine which models are registered. A model is
measured once: the caller stores the rating under the digests of the model and of everything that decides what
is measured.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

from temper import artifacts
from temper.artifacts import digest_file
from temper.config import load
from temper.gate.rating import write_rating
from temper.inputs.facts import Facts
from temper.inputs.stored import read_inputs
from temper.networks.onnx_model import Deployed
from temper.problem import Problem
from temper.problems.deployed_answer import read_answer
from temper.stages.holdout import make_ratings, open_test
from temper.stress.evaluation import evaluate

_MODEL = "model"
_NAMED = 10
"""Number of names that a message lists."""


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
    check_question(Deployed(file).metadata, test.problem, test.examples.facts)
    model = test.open(file)
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
    _refuse_other_names("class lists", json.loads(metadata.get("temper.classes", "[]")), problem.classes)
    measured, wanted = read_answer(metadata), problem.answer
    if measured.keys() != wanted.keys():
        raise ValueError(f"the model answers {', '.join(measured)}, the project asks for {', '.join(wanted)}")
    for name in () if problem.rare else wanted:
        _refuse_other_names(f"names of {name}", measured[name].names, wanted[name].names)
    takes, has = (
        ", ".join(f"{name} ({each.needs})" for name, each in inputs.items())
        for inputs in (read_inputs(metadata), facts)
    )
    if takes != has:
        raise ValueError(f"the inputs differ: the model takes {takes}, the project has {has}")


def _refuse_other_names(what: str, theirs: Sequence[str], ours: Sequence[str]) -> None:
    """Refuse a model that tells other things apart.

    Raises:
        ValueError: Names what the model lacks and adds.
    """
    if tuple(theirs) == tuple(ours):
        return
    found = {
        "lacks": [name for name in ours if name not in theirs],
        "adds": [name for name in theirs if name not in ours],
    }
    parts = []
    for verb, names in found.items():
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        parts += [f"{verb} {', '.join(names[:_NAMED])}{more}"] if names else []
    difference = " and ".join(parts) or "has the same names in another order"
    raise ValueError(f"{what} differ: the model {difference}")
