"""All checks of a project that was disturbed and repaired: is it equal to an undisturbed one?"""

import csv
import json
import sqlite3
from contextlib import closing
from typing import Any

from temper import artifacts
from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from tests.faults.plans import STAGE_NAMES

_NOT_REPRODUCIBLE = ("latency_ms", "images_per_s")
_TRAINED = ("train", "distill")


def facts(project: Project) -> dict[str, Any]:
    """Return the results of a run that must be the same however often the run was disturbed.

    Raises:
        ValueError: If an artifact is missing or damaged.
        OSError: If a file cannot be read.
    """
    found = {name: artifacts.load(name, project.artifacts / name).digest for name in STAGE_NAMES}
    summary = json.loads((project.reports / "summary.json").read_text(encoding="utf-8"))
    digest = summary["candidates"]["quantized"]["digest"]
    registered = model_versions.find(project, summary["project"], digest)
    file = (
        None
        if registered is None or not registered.file.is_file()
        else artifacts.digest_file(registered.file)
    )
    aliases = None if registered is None else list(registered.aliases)
    for candidate in summary["candidates"].values():
        for name in _NOT_REPRODUCIBLE:
            assert candidate.pop(name) is not None
    del summary["seconds"], summary["versions"], summary["registered"]["version"]
    return {
        **{f"artifacts/{name}": value for name, value in found.items()},
        "registered file": file,
        "registered file, as named by evaluate": digest if file is None else file == digest,
        "aliases": aliases,
        "reports/summary.json": summary,
    }


def check(project: Project, expected: dict[str, Any], *, damaged: str = "") -> list[str]:
    """Compare a finished project with the undisturbed one.

    Args:
        project: A project whose last run ended with status 0.
        expected: Facts of the undisturbed project.
        damaged: File that was damaged on purpose, relative to the project; empty if there is none.

    Returns:
        Descriptions of all differences and faults; empty if there are none.
    """
    try:
        found = facts(project)
    except (ValueError, OSError, KeyError, sqlite3.Error) as error:
        return [f"after the repair: {type(error).__name__}: {error}"]
    wrong = [
        f"{name} is {str(found.get(name))[:200]}, undisturbed {str(value)[:200]}"
        for name, value in expected.items()
        if found.get(name) != value
    ]
    wrong += check_tracking(project, recorded=not damaged.startswith("mlruns"))
    wrong += check_flows(project)
    if not damaged.startswith(".temper/work"):
        wrong += [fault for stage in _TRAINED for fault in check_journal(project, stage)]
    return wrong


def check_tracking(project: Project, *, recorded: bool = True) -> list[str]:
    """Check MLflow's records: no endless run, no duplicate point or model, no gap in a curve."""
    wrong = []
    if running := _ask(project.database, "SELECT name FROM runs WHERE status = 'RUNNING'"):
        wrong.append(f"MLflow shows as running: {', '.join(name for (name,) in running)}")
    for run, key, points, steps in _ask(
        project.database,
        "SELECT run_uuid, key, COUNT(*), COUNT(DISTINCT step) FROM metrics "
        "WHERE key LIKE 'train/%' GROUP BY 1, 2",
    ):
        if points != steps:
            wrong.append(f"MLflow has {points} points for {steps} steps of {key} of run {run[:8]}")
    question = """
        SELECT t.value, COUNT(*) FROM model_version_tags t JOIN model_versions v USING (name, version)
        WHERE t.key = 'digest' AND v.current_stage != 'Deleted_Internal' GROUP BY 1 HAVING COUNT(*) > 1
    """
    if recorded:
        wrong += [
            f"model {digest[:12]} was registered {count} times"
            for digest, count in _ask(project.database, question)
        ]
        wrong += _check_curves(project)
    return wrong


def _check_curves(project: Project) -> list[str]:
    """Check that the curve of every finished run of a candidate is complete."""
    wrong = []
    for stage, candidate in (("train", "teacher"), ("distill", "student")):
        steps = {step for step, name in _curve(project, stage) if name == "train/loss"}
        question = """
            SELECT r.run_uuid, m.step FROM runs r JOIN metrics m USING (run_uuid)
            WHERE r.name = ? AND r.status = 'FINISHED' AND m.key = 'train/loss'
        """
        shown: dict[str, set[int]] = {}
        for run, step in _ask(project.database, question, candidate):
            shown.setdefault(run, set()).add(step)
        wrong += [
            f"MLflow shows {len(found)} of {len(steps)} steps of the {candidate}'s curve "
            f"in the finished run {run[:8]}"
            for run, found in shown.items()
            if found != steps
        ]
    return wrong


def check_flows(project: Project) -> list[str]:
    """Check Prefect's records: no flow or task may seem to run after the end."""
    database, wrong = project.prefect_home / "prefect.db", []
    for table in ("flow_run", "task_run") if database.is_file() else ():
        question = (
            f"SELECT name, state_type FROM {table} WHERE state_type IN ('RUNNING', 'PENDING', 'SCHEDULED')"
        )
        wrong += [f"Prefect shows {table} {name} as {state}" for name, state in _ask(database, question)]
    return wrong


def check_journal(project: Project, stage: str) -> list[str]:
    """Check the journal of a training if it exists: steps in order, none twice, none missing."""
    path = project.hidden / "work" / stage / "journal.jsonl"
    if not path.is_file():
        return []
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        return [f"{path.name} of {stage} has a broken line: {error}"]
    points = [
        (entry["step"], name)
        for entry in entries
        for name in entry["values"]
        if not name.startswith("speed/")
    ]
    if [step for step, _ in points] != sorted(step for step, _ in points) or len(points) != len({*points}):
        return [f"{path.name} of {stage} has a step twice or out of order"]
    return [] if points == _curve(project, stage) else [f"{path.name} of {stage} and its curves.csv differ"]


def _curve(project: Project, stage: str) -> list[tuple[int, str]]:
    with (project.artifacts / stage / "curves.csv").open(newline="", encoding="utf-8") as stream:
        return [(int(row["step"]), row["name"]) for row in csv.DictReader(stream)]


def _ask(database: Any, question: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(question, values).fetchall()
