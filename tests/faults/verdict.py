"""Is a project that was disturbed and repaired the same as one that was not? Everything that must hold, in one place."""

import csv
import json
import sqlite3
from contextlib import closing
from typing import Any

from temper import artifacts
from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from tests.faults.plans import STAGE_NAMES

_OTHERWISE_EACH_TIME = ("latency_ms", "images_per_s")
_TRAINED = ("train", "distill")


def facts(project: Project) -> dict[str, Any]:
    """What a run came to that must be the same however often it was disturbed.

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
        for name in _OTHERWISE_EACH_TIME:
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
    """Hold a finished project against the undisturbed one.

    Args:
        project: Its last run ended with status 0.
        expected: The undisturbed project's facts.
        damaged: The file that was damaged on purpose, relative to the project; empty if none was.

    Returns:
        What is wrong, in words.
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
    """MLflow's records: nothing runs for ever, no point twice, no curve with a gap, no model registered twice."""
    wrong = []
    if running := _ask(project.database, "SELECT name FROM runs WHERE status = 'RUNNING'"):
        wrong.append(f"MLflow shows as running: {', '.join(name for (name,) in running)}")
    for run, key, points, steps in _ask(
        project.database,
        "SELECT run_uuid, key, COUNT(*), COUNT(DISTINCT step) FROM metrics WHERE key LIKE 'train/%' GROUP BY 1, 2",
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
    """The curve of every finished run of a candidate is whole."""
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
            f"MLflow shows {len(found)} of {len(steps)} steps of the {candidate}'s curve in the finished run {run[:8]}"
            for run, found in shown.items()
            if found != steps
        ]
    return wrong


def check_flows(project: Project) -> list[str]:
    """Prefect's records: nothing runs for ever."""
    database, wrong = project.prefect_home / "prefect.db", []
    for table in ("flow_run", "task_run") if database.is_file() else ():
        question = (
            f"SELECT name, state_type FROM {table} WHERE state_type IN ('RUNNING', 'PENDING', 'SCHEDULED')"
        )
        wrong += [f"Prefect shows {table} {name} as {state}" for name, state in _ask(database, question)]
    return wrong


def check_journal(project: Project, stage: str) -> list[str]:
    """The journal of a training, where it was written by it: in order, no step twice, none missing."""
    path = project.hidden / "work" / stage / "journal.jsonl"
    if not path.is_file():
        return []
    try:
        entries = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    except ValueError as error:
        return [f"{path.name} of {stage} is torn: {error}"]
    said = [
        (entry["step"], name)
        for entry in entries
        for name in entry["values"]
        if not name.startswith("speed/")
    ]
    if [step for step, _ in said] != sorted(step for step, _ in said) or len(said) != len({*said}):
        return [f"{path.name} of {stage} has a step twice or out of order"]
    return [] if said == _curve(project, stage) else [f"{path.name} of {stage} and its curves.csv differ"]


def _curve(project: Project, stage: str) -> list[tuple[int, str]]:
    with (project.artifacts / stage / "curves.csv").open(newline="", encoding="utf-8") as stream:
        return [(int(row["step"]), row["name"]) for row in csv.DictReader(stream)]


def _ask(database: Any, question: str, *values: Any) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=30)) as connection:
        return connection.execute(question, values).fetchall()
