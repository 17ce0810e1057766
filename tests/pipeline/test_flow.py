"""The chain through Prefect, DVC and a real MLflow database, as `make pipeline` runs it, on generated pictures."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from tasks import terminal
from tasks.project import MARK
from temper.stages import STAGES
from tests.project import ROOT, make_project

STEPS = [*(stage.name for stage in STAGES), "measure", "register"]
pytestmark = pytest.mark.slow


def start(project: Path, *options: str) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "flows.pipeline", "--project", str(project), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(project: Path, *options: str) -> tuple[int, str, str]:
    process = start(project, *options)
    said, errors = process.communicate(timeout=400)
    return process.returncode, said, errors


def edit(project: Path, old: str, new: str) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new))


def planned(said: str) -> list[str]:
    """The steps that a printed plan says will run."""
    return re.findall(r"^(\w+) +run ", said, re.MULTILINE)


def ran(said: str) -> list[str]:
    """The stages that a run says it ran."""
    return re.findall(r"\] (\w+): done", said)


def ask(database: Path, question: str) -> list[tuple]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()


def mlflow_runs(project: Path) -> list[tuple[str, str]]:
    return ask(project / "mlruns" / "mlflow.db", "SELECT name, status FROM runs ORDER BY start_time")


def prefect_runs(project: Path, table: str = "flow_run") -> list[tuple[str, str]]:
    return ask(
        project / ".temper" / "prefect" / "prefect.db", f"SELECT name, state_type FROM {table} ORDER BY start_time"
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that went through once."""
    project = make_project(tmp_path_factory.mktemp("flow") / "project", "multiclass")
    code, said, errors = run(project)
    assert code == 0, said + errors
    assert planned(said) == STEPS
    assert ran(said) == [stage.name for stage in STAGES]
    assert "version 1" in said
    assert "make ui" in said
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of it, to be spoilt: equally deep, so that paths in dvc.lock still hold."""
    copy = tmp_path / "project"
    shutil.copytree(finished, copy)
    return copy


def test_what_a_run_leaves(finished: Path):
    summary = json.loads((finished / "reports" / "summary.json").read_text())
    assert list(summary["candidates"]) == ["teacher", "student", "quantized"]
    assert summary["registered"]["aliases"] == ["challenger", "champion"]
    assert {*STEPS, "total"} == set(summary["seconds"])
    assert sum(sum(split.values()) for split in summary["data"]["counts"].values()) <= 240

    parent, *children = mlflow_runs(finished)
    assert parent[1] == "FINISHED"
    assert children == [("teacher", "FINISHED"), ("student", "FINISHED"), ("quantized", "FINISHED")]
    points = "SELECT COUNT(*), COUNT(DISTINCT run_uuid || key || step) FROM metrics WHERE key LIKE 'train/%'"
    [(count, distinct)] = ask(finished / "mlruns" / "mlflow.db", points)
    assert count == distinct > 0

    assert [state for _, state in prefect_runs(finished)] == ["COMPLETED"]
    assert prefect_runs(finished, "task_run") == [(name, "COMPLETED") for name in STEPS]


def test_again_nothing_runs(finished: Path):
    before = mlflow_runs(finished), prefect_runs(finished), (finished / "dvc.lock").read_text()
    started = time.monotonic()
    code, said, errors = run(finished)
    assert code == 0, errors
    assert time.monotonic() - started < 10
    assert planned(said) == ran(said) == []
    assert "nothing to do" in said
    assert (mlflow_runs(finished), prefect_runs(finished), (finished / "dvc.lock").read_text()) == before


def test_dvc_alone_leaves_the_same_lock(finished: Path, tmp_path: Path):
    alone = tmp_path / "project"
    alone.mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(finished / name, alone / name)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1", "DVC_NO_ANALYTICS": "1"}
    for command in (["dvc", "init", "--no-scm", "-q"], ["dvc", "repro", "-q"]):
        subprocess.run(command, cwd=alone, env=environment, check=True, timeout=400)
    assert (alone / "dvc.lock").read_text() == (finished / "dvc.lock").read_text()


def test_one_parameter_of_quantize(project: Path):
    edit(project, "calibration_images: 64", "calibration_images: 72")
    code, said, _ = run(project, "--plan")
    assert code == 0
    assert "params quantize.calibration_images 64 → 72" in said
    assert planned(said) == ["quantize", "evaluate", "measure", "register"]
    code, said, errors = run(project)
    assert code == 0, errors
    assert ran(said) == ["quantize", "evaluate"]
    assert "train: up to date" in said
    assert len(mlflow_runs(project)) == 8


def test_a_failing_stage(project: Path):
    """It has the last word, in one paragraph, and every record says that the run failed."""
    edit(project, "problem: {kind: multiclass}", "problem: {kind: segmentation, classes: [a, b]}")
    code, said, errors = run(project)
    assert code == 1
    assert errors.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said + errors
    assert mlflow_runs(project)[-1][1] == "FAILED"
    assert prefect_runs(project)[-1][1] == "FAILED"
    [(message,)] = ask(
        project / ".temper" / "prefect" / "prefect.db",
        "SELECT s.message FROM task_run t JOIN task_run_state s ON s.id = t.state_id WHERE t.state_type = 'FAILED'",
    )
    assert errors.strip().endswith(message)


def cut_off(project: Path, how: signal.Signals) -> int:
    """Start a run, end it while it trains; gives its exit status."""
    edit(project, "epochs: 2", "epochs: 2000")
    process = start(project)
    journal = project / ".temper" / "work" / "train" / "journal.jsonl"
    before = journal.stat().st_mtime_ns
    until = time.monotonic() + 120
    while journal.stat().st_mtime_ns == before:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.2)
    time.sleep(2)  # so that the curve has begun in MLflow
    process.send_signal(how)
    process.communicate(timeout=60)
    return process.returncode


def test_ctrl_c_ends_everything_a_run_started(project: Path):
    assert cut_off(project, signal.SIGINT) == 130
    assert {status for _, status in mlflow_runs(project)} == {"FINISHED", "KILLED"}
    assert [state for _, state in prefect_runs(project)] == ["COMPLETED", "CRASHED"]
    assert terminal.marked(MARK, str(project)) == []


def test_after_a_kill_the_next_run_clears_up(project: Path):
    """Nothing goes on in the dark, and no record says for ever that it runs."""
    assert cut_off(project, signal.SIGKILL) == -signal.SIGKILL
    assert ("teacher", "RUNNING") in mlflow_runs(project)
    edit(project, "epochs: 2000", "epochs: 2")  # as before: everything comes back from DVC's cache
    code, said, errors = run(project)
    assert code == 0, errors
    assert "left over from a run that was killed" in said
    assert "train: restored" in said
    assert {status for _, status in mlflow_runs(project)} == {"FINISHED", "KILLED"}
    assert [state for _, state in prefect_runs(project)] == ["COMPLETED", "CRASHED", "COMPLETED"]


def test_mistakes_are_found_before_anything_starts(tmp_path: Path):
    project = make_project(tmp_path / "project", "multiclass")
    edit(project, "seed: 0", "sed: 0")
    started = time.monotonic()
    code, _, errors = run(project)
    assert (code, errors.count("\n")) == (2, 1)
    assert "unknown key sed; the nearest known one is 'seed'" in errors
    assert time.monotonic() - started < 5
    assert not (project / ".temper" / "prefect").exists()
    assert run(tmp_path / "nowhere")[0] == 2
