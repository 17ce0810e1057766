"""The input of the gate: the ratings of this run's candidates, and the champion's on the same images."""

import json
import sys
from pathlib import Path
from typing import Any

from temper import artifacts
from temper.artifacts import DEPLOYED
from temper.config import Params
from temper.gate.decision import Constant, judge
from temper.gate.params import SPEEDS
from temper.gate.rating import Rating, read_rating
from temper.gate.verdict import Verdict
from temper.ops.candidates import CANDIDATES
from temper.ops.mlflow.model_versions import Registered
from temper.ops.project import Project
from temper.ops.release import split_history
from temper.ops.system import failure_messages, subprocesses

FOLDER = "ratings"


def judge_candidate(project: Project, params: Params, champion: Registered | None) -> Verdict:
    """Return the gate's verdict on the quantized model in the artifacts.

    Args:
        project: Project with the artifacts.
        params: Parameters of the project, with the rules.
        champion: Version with which the model is compared; None if there is no champion.
    """
    evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
    if champion is not None and (leak := leaked(project, params, champion)):
        return Verdict("incomparable", (), leak)
    ratings = {name: read_rating(evaluated.path(f"{FOLDER}/{name}.safetensors")) for name in CANDIDATES}
    return judge(
        params.gate,
        ratings.pop(DEPLOYED),
        champion=None if champion is None else measure_version(project, champion),
        others=ratings,
        speeds=_speeds(project),
        constant=_constant(evaluated),
    )


def judge_version(
    project: Project, params: Params, version: Registered, champion: Registered | None
) -> Verdict:
    """Return the gate's verdict on any registered version.

    Ratings of teacher and student, and speeds, are known only of the model in the artifacts. For another
    version, a rule on them does not hold.

    Raises:
        ValueError: If the version cannot be measured.
    """
    for each in filter(None, (version, champion)):
        if leak := leaked(project, params, each):
            return Verdict("incomparable", (), leak)
    rating = measure_version(project, version)
    if isinstance(rating, str):
        raise ValueError(rating)
    others, speeds = _made_beside(project, version)
    return judge(
        params.gate,
        rating,
        champion=None if champion is None else measure_version(project, champion),
        others=others,
        speeds=speeds,
        constant=_current_constant(project),
    )


def _made_beside(
    project: Project, version: Registered
) -> tuple[dict[str, Rating], dict[str, dict[str, float]]]:
    """Return ratings of teacher and student, and all speeds, if the version is the model in the artifacts."""
    try:
        evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
        if evaluated.facts["candidates"][DEPLOYED]["digest"] != version.digest:
            return {}, {}
        ratings = {
            name: read_rating(evaluated.path(f"{FOLDER}/{name}.safetensors"))
            for name in CANDIDATES
            if name != DEPLOYED
        }
        return ratings, _speeds(project)
    except (ValueError, OSError):
        return {}, {}  # an old version can be judged while the artifacts are being made again


def _current_constant(project: Project) -> Constant | None:
    """Return the best constant answer on the current test images; None unless evaluate ran on them."""
    try:
        return _constant(artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False))
    except ValueError:
        return None  # an old version can be promoted while the artifacts are being made again


def _constant(evaluated: artifacts.Artifact) -> Constant | None:
    """Return the best constant answer and its scores, if evaluate could tell."""
    found = evaluated.facts.get("constant")
    return (str(found[0]), found[1]) if found else None


def measure_version(project: Project, version: Registered) -> Rating | str:
    """Return the rating of a registered version on the current test images. It is measured only once.

    Returns:
        The rating, or, if the version cannot be measured, a text with the reason and the way out.
    """
    file = result_file(project, version)
    if file.is_file():
        try:
            return read_rating(file)
        except ValueError:
            file.unlink()
    name = f"version {version.version} of {version.name}"
    if not version.whole:
        return (
            f"{name} cannot be evaluated: {version.file} is missing or damaged; restore the file, or, if the "
            f"version is the champion, run `{project.make('rollback')}`"
        )
    print(f"measuring {name} on the current test images", flush=True)
    command = [sys.executable, "-m", "temper", "rate", str(version.file), str(file)]
    ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment())
    if ended.code:
        message, _ = failure_messages.read("rate", ended)
        return f"{name} cannot be evaluated: {message}"
    return read_rating(file)


def save_result(project: Project, version: Registered) -> None:
    """Store evaluate's rating of the version just registered, so that the version is not measured again."""
    evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
    file = result_file(project, version)
    file.parent.mkdir(parents=True, exist_ok=True)
    artifacts.write_atomically(file, evaluated.path(f"{FOLDER}/{DEPLOYED}.safetensors").read_bytes())


def leaked(project: Project, params: Params, version: Registered) -> str | None:
    """Return an error message if a version was trained on current test images; None if it was not."""
    seen, total = split_history.count_seen(project, version)
    if not seen:
        return None
    return (
        f"version {version.version} of {version.name} was trained on {seen} of the {total} current test "
        "images, so its score would be too good; restore the splits with which it was trained "
        f"({project.folder / params.prepare.splits} stores them when `{project.make('retrain')}` or "
        f"`{project.make('pipeline')}` reads new images)"
    )


def result_file(project: Project, version: Registered) -> Path:
    """Return the path of a version's rating.

    Its name contains the digest of the model, and the digest of everything that affects the measurement.
    """
    evaluated = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False)
    made_with = artifacts.digest_json([evaluated.made_from["prepare"], evaluated.params, evaluated.code])
    return project.hidden / FOLDER / f"{version.digest[:16]}-{made_with[:16]}.safetensors"


def _speeds(project: Project) -> dict[str, dict[str, float]]:
    timed: dict[str, Any] = json.loads((project.reports / "latency.json").read_text(encoding="utf-8"))[
        "candidates"
    ]
    return {name: {key: float(found[key]["median"]) for key in SPEEDS} for name, found in timed.items()}
