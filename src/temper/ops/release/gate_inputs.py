"""What the gate is asked with: ratings of this run's candidates, and the champion's on the same images."""

import json
import sys
from pathlib import Path
from typing import Any

from temper import artifacts
from temper.config import Params
from temper.gate.decision import Verdict, judge
from temper.gate.evaluation_result import Rating, read_rating
from temper.gate.params import SPEEDS
from temper.ops.candidates import CANDIDATE, CANDIDATES
from temper.ops.mlflow.model_versions import Registered
from temper.ops.project import Project
from temper.ops.release import split_history
from temper.ops.system import failure_messages, subprocesses

FOLDER = "ratings"


def judge_candidate(project: Project, params: Params, champion: Registered | None) -> Verdict:
    """The gate's verdict on the quantized model that lies in the artifacts.

    Args:
        project: Whose artifacts they are.
        params: With the rules.
        champion: The version it is held against; None if there is none.
    """
    evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
    if champion is not None and (leak := leaked(project, champion)):
        return Verdict("incomparable", (), leak)
    ratings = {name: read_rating(evaluated.path(f"{FOLDER}/{name}.safetensors")) for name in CANDIDATES}
    return judge(
        params.gate,
        ratings.pop(CANDIDATE),
        champion=None if champion is None else measure_version(project, champion),
        others=ratings,
        speeds=_speeds(project),
    )


def judge_version(
    project: Project, params: Params, version: Registered, champion: Registered | None
) -> Verdict:
    """The gate's verdict on any registered version; of rules that compare with the teacher or the student it knows nothing.

    Raises:
        ValueError: If the version cannot be measured.
    """
    for each in filter(None, (version, champion)):
        if leak := leaked(project, each):
            return Verdict("incomparable", (), leak)
    rating = measure_version(project, version)
    if isinstance(rating, str):
        raise ValueError(rating)
    return judge(
        params.gate,
        rating,
        champion=None if champion is None else measure_version(project, champion),
        others={},
        speeds={},
    )


def measure_version(project: Project, version: Registered) -> Rating | str:
    """How a registered version does on the images of today; measured once. Text, if it cannot be measured: why, and the way out."""
    file = result_file(project, version)
    if file.is_file():
        try:
            return read_rating(file)
        except ValueError:
            file.unlink()
    name = f"version {version.version} of {version.name}"
    if not version.whole:
        return (
            f"{name} cannot be evaluated: {version.file} is missing or damaged; put it back, or, if it is the champion, `make rollback`, "
            'or make the new one champion all the same: make promote REASON="..."'
        )
    print(f"measuring {name} on the images of today", flush=True)
    command = [sys.executable, "-m", "temper", "rate", str(version.file), str(file)]
    ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment())
    if ended.code:
        message, _ = failure_messages.read("rate", ended)
        return f'{name} cannot be evaluated: {message}; if the new one is meant to take over: make promote REASON="..."'
    return read_rating(file)


def save_result(project: Project, version: Registered) -> None:
    """Keep the rating of the version that was registered just now: evaluate made it, nobody need measure it again."""
    evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
    file = result_file(project, version)
    file.parent.mkdir(parents=True, exist_ok=True)
    artifacts.write_atomically(file, evaluated.path(f"{FOLDER}/{CANDIDATE}.safetensors").read_bytes())


def leaked(project: Project, version: Registered) -> str | None:
    """What to say if a version was trained on images that it would be measured on; None if it was not."""
    seen, total = split_history.count_seen(project, version)
    if not seen:
        return None
    return (
        f"version {version.version} of {version.name} was trained on {seen} of today's {total} test images, so its score would be too good; "
        f"put back the splits it was trained with ({project.folder / 'splits.parquet'} keeps them when images arrive by `make retrain` or "
        '`make pipeline`), or make the new one champion by hand: make promote REASON="..."'
    )


def result_file(project: Project, version: Registered) -> Path:
    """Where a version's rating lies: named by the digests of the model and of all that decides what is measured."""
    evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
    made_with = artifacts.digest_json([evaluated.made_from["prepare"], evaluated.params, evaluated.code])
    return project.hidden / FOLDER / f"{version.digest[:16]}-{made_with[:16]}.safetensors"


def _speeds(project: Project) -> dict[str, dict[str, float]]:
    timed: dict[str, Any] = json.loads((project.reports / "latency.json").read_text(encoding="utf-8"))[
        "candidates"
    ]
    return {name: {key: float(found[key]["median"]) for key in SPEEDS} for name, found in timed.items()}
