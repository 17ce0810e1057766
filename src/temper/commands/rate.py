"""A registered model on the images of today, by the code that measures a run's own candidates.

No DVC stage: which models are registered is not the files' to say. It is done once: whoever asks keeps the rating by the digests of
the model and of all that decides what is measured.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

from temper import artifacts
from temper.artifacts import digest_file
from temper.config import load
from temper.gate.evaluation_result import write_rating
from temper.networks.onnx_model import PART, Deployed
from temper.problem import Problem
from temper.stages.holdout import make_ratings, open_test
from temper.stress.evaluation import evaluate

_MODEL = "model"


def rate(project: Path, file: Path, out: Path) -> None:
    """Measure a registered model on the project's test split of today, under the conditions of today.

    Args:
        project: Folder with params.yaml and the artifact of prepare.
        file: The model, as it was registered.
        out: Where its rating goes.

    Raises:
        ValueError: If the model answers another question than the project asks; names the difference.
    """
    params, prepare = load(project), artifacts.load("prepare", project / "artifacts" / "prepare")
    test, model = open_test(prepare), Deployed(file, part=PART)
    check_question(model.metadata, test.problem, test.images.channels)
    out.parent.mkdir(parents=True, exist_ok=True)
    parts = out.with_suffix(".parts")
    evaluation = evaluate(
        test.problem,
        {_MODEL: model},
        test.images,
        targets=test.targets,
        strata=test.strata,
        params=params.evaluate,
        seed=params.seed,
        checkpoints=parts,
    )
    costs = {_MODEL: {"digest": digest_file(file), "bytes": file.stat().st_size}}
    ratings = make_ratings(evaluation, test.problem, prepare, params.evaluate, seed=params.seed, costs=costs)
    write_rating(out, ratings[_MODEL])
    shutil.rmtree(parts, ignore_errors=True)


def check_question(metadata: Mapping[str, str], problem: Problem, channels: int) -> None:
    """Refuse a model that answers another question than is asked.

    Raises:
        ValueError: Names the difference.
    """
    asked, answered = problem.kind, metadata.get("temper.kind")
    if answered != asked:
        raise ValueError(f"the model answers {answered}, the project asks {asked}")
    classes = json.loads(metadata.get("temper.classes", "[]"))
    if tuple(classes) != problem.classes:
        gone = [name for name in classes if name not in problem.classes]
        new = [name for name in problem.classes if name not in classes]
        words = [
            f"{word} {', '.join(names)}"
            for word, names in (("it alone knows", gone), ("it does not know", new))
            if names
        ]
        raise ValueError(
            f"the model's classes are not the project's: {'; '.join(words) or 'they are in another order'}"
        )
    takes = json.loads(metadata.get("temper.input", "[null]"))[-1]
    if takes != channels:
        raise ValueError(f"the model takes images of {takes} channels, the project's have {channels}")
