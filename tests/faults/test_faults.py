"""A few seeds of `make faults`, and its checks on a project that is damaged on purpose."""

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing

import pytest

from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from tests.faults import damage, shim
from tests.faults.plans import Start, draw
from tests.faults.reference import make_reference, start_from
from tests.faults.trial import RECOVERED, REPAIRED, Bench, run_trial
from tests.faults.verdict import check

FINISHED = Start(1, (), nothing=False, tracking=True, prefect=True)
SEEDS = (0, 122, 143)
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    work = tmp_path_factory.mktemp("faults").resolve()
    library = shim.build(work)
    return Bench(work, {1: make_reference(work, 1, library, epochs=6)}, library)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_command_ends_with_the_same_model(bench: Bench, seed: int):
    result = run_trial(draw(seed), bench)
    assert result.outcome in (RECOVERED, REPAIRED), f"{result.plan}\n{result.story}\n{result.wrong}"


def change(path: str, sql: str) -> Callable[[Project], None]:
    def spoil(project: Project) -> None:
        with closing(sqlite3.connect(project.folder / path)) as database, database:
            assert database.execute(sql).rowcount > 0

    return spoil


def another_digest(project: Project) -> None:
    path = project.artifacts / "ingest" / "artifact.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "digest": "0" * 64}))


def another_registered_file(project: Project) -> None:
    summary = json.loads((project.reports / "summary.json").read_text())
    found = model_versions.find(project, summary["project"], summary["registered"]["digest"])
    assert found is not None and found.file.is_relative_to(project.folder)
    damage.flip(found.file, draw(0).generator("file"))


def another_score(project: Project) -> None:
    path = project.reports / "summary.json"
    summary = json.loads(path.read_text())
    summary["candidates"]["teacher"]["accuracy"]["value"] += 1e-9
    path.write_text(json.dumps(summary))


def a_step_twice(project: Project) -> None:
    path = project.hidden / "work" / "train" / "journal.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines, lines[-1]]) + "\n")


def a_gap(project: Project) -> None:
    path = project.hidden / "work" / "train" / "journal.jsonl"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(lines[:2] + lines[3:]) + "\n")


MLFLOW, PREFECT = "mlruns/mlflow.db", ".temper/prefect/prefect.db"
SPOILS = {
    "artifact.json": another_digest,
    "registered file": another_registered_file,
    "summary.json": another_score,
    "step twice": a_step_twice,
    "curves.csv differ": a_gap,
    "MLflow shows as running": change(MLFLOW, "UPDATE runs SET status = 'RUNNING' WHERE name = 'teacher'"),
    "points for": change(
        MLFLOW,
        "INSERT INTO metrics SELECT key, value + 1, timestamp, run_uuid, step, is_nan FROM metrics "
        "WHERE key = 'train/loss' LIMIT 1",
    ),
    "steps of the teacher's curve": change(
        MLFLOW,
        "DELETE FROM metrics WHERE key = 'train/loss' "
        "AND step = (SELECT MAX(step) FROM metrics WHERE key = 'train/loss')",
    ),
    "was registered 2 times": change(
        MLFLOW,
        "INSERT INTO model_version_tags (key, value, name, version, workspace) "
        "SELECT key, value, name, 2, workspace FROM model_version_tags",
    ),
    "flow_run": change(PREFECT, "UPDATE flow_run SET state_type = 'RUNNING'"),
    "task_run": change(PREFECT, "UPDATE task_run SET state_type = 'PENDING' WHERE name = 'train'"),
}


def test_an_undisturbed_project_has_no_fault(bench: Bench):
    project = start_from(bench.references[1], bench.work / "spoilt", FINISHED)
    assert check(project, bench.references[1].facts) == []


@pytest.mark.parametrize("what", SPOILS)
def test_every_check_can_fail(bench: Bench, what: str):
    project = start_from(bench.references[1], bench.work / "spoilt", FINISHED)
    if what == "was registered 2 times":
        with closing(sqlite3.connect(project.database)) as database, database:
            columns = [row[1] for row in database.execute("PRAGMA table_info(model_versions)")]
            values = ", ".join("2" if column == "version" else column for column in columns)
            database.execute(
                f"INSERT INTO model_versions ({', '.join(columns)}) SELECT {values} FROM model_versions"
            )
    SPOILS[what](project)
    assert any(what in fault for fault in check(project, bench.references[1].facts))


def test_removed_stages_must_run_again(bench: Bench):
    project = start_from(bench.references[1], bench.work / "worn", Start(1, ("train",), False, False, False))
    assert (
        not (project.artifacts / "train").exists()
        and not project.runs.exists()
        and not project.prefect_home.exists()
    )
    assert (project.artifacts / "distill").is_dir()
    shutil.rmtree(project.folder)
