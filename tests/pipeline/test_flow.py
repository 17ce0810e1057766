"""The pipeline as `make pipeline` runs it: Prefect, DVC and a real MLflow database, on generated images."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
import uuid
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

import pytest
import yaml

from temper.ops.project import MARK, Project
from temper.ops.system import project_lock, subprocesses
from temper.stages import STAGES
from tests.project import COMMANDS, OUTPUT, ROOT, copy_project, make_project

STEPS = [*(stage.name for stage in STAGES), "measure", "register"]
pytestmark = pytest.mark.slow


def start(
    project: Path, *options: str, variables: Mapping[str, str] | None = None
) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "flows", "pipeline", "--project", str(project), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **(variables or {})}
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, cwd=ROOT, env=environment, text=True, **streams)


def run(project: Path, *options: str, variables: Mapping[str, str] | None = None) -> tuple[int, str, str]:
    process = start(project, *options, variables=variables)
    said, errors = process.communicate(timeout=400)
    return process.returncode, said, errors


def look(project: Path, command: str) -> tuple[int, str]:
    """Run a command that runs no stage; gives its exit status and its output."""
    words = [*COMMANDS[command], "--project", str(project)]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=400, check=False)
    return done.returncode, done.stdout


def edit(project: Path, old: str, new: str) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new))


def planned(said: str) -> list[str]:
    """Return the steps that will run according to a printed plan."""
    return re.findall(r"^(\w+) +run ", said, re.MULTILINE)


def ran(said: str) -> list[str]:
    """Return the stages that a run reports as done."""
    return re.findall(r"\] (\w+): done", said)


def ask(database: Path, question: str) -> list[tuple]:
    with closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        return connection.execute(question).fetchall()


def mlflow_runs(project: Path) -> list[tuple[str, str]]:
    return ask(project / "mlruns" / "mlflow.db", "SELECT name, status FROM runs ORDER BY start_time")


def prefect_runs(project: Path, table: str = "flow_run") -> list[tuple[str, str]]:
    return ask(
        project / ".temper" / "prefect" / "prefect.db",
        f"SELECT name, state_type FROM {table} ORDER BY start_time",
    )


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Path:
    """A copy of the finished project that a test may damage."""
    return copy_project(finished, tmp_path / "project")


def test_what_a_run_says(finished: Path):
    said = finished.with_name(OUTPUT).read_text()
    assert planned(said) == STEPS
    assert ran(said) == [stage.name for stage in STAGES]
    assert "version 1" in said
    assert "make ui" in said


def test_what_a_run_leaves(finished: Path):
    summary = json.loads((finished / "reports" / "summary.json").read_text())
    assert list(summary["candidates"]) == ["teacher", "student", "quantized"]
    assert summary["registered"]["aliases"] == ["challenger", "champion"]
    assert {*STEPS, "total"} == set(summary["seconds"])
    assert sum(sum(split.values()) for split in summary["data"]["counts"].values()) <= 240

    parent, *children = mlflow_runs(finished)
    assert parent[1] == "FINISHED"
    assert children == [
        ("teacher", "FINISHED"),
        ("student", "FINISHED"),
        ("quantized, version 1", "FINISHED"),
    ]
    points = "SELECT COUNT(*), COUNT(DISTINCT run_uuid || key || step) FROM metrics WHERE key LIKE 'train/%'"
    [(count, distinct)] = ask(finished / "mlruns" / "mlflow.db", points)
    assert count == distinct > 0

    assert [state for _, state in prefect_runs(finished)] == ["COMPLETED"]
    assert prefect_runs(finished, "task_run") == [(name, "COMPLETED") for name in STEPS]


def test_again_nothing_runs(finished: Path):
    before = mlflow_runs(finished), prefect_runs(finished), (finished / "dvc.lock").read_text()
    code, said, errors = run(finished)
    assert code == 0, errors
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
    for command in (["dvc", "init", "--no-scm", "-q"], ["dvc", "repro", "-q", "train"]):
        subprocess.run(command, cwd=alone, env=environment, check=True, timeout=400)
    ours, theirs = (yaml.safe_load((each / "dvc.lock").read_text())["stages"] for each in (alone, finished))
    assert ours == {name: theirs[name] for name in ("ingest", "prepare", "augment", "train")}


def test_a_failing_stage(project: Path):
    """The stage's error is the last paragraph of the output, and every record says that the run failed."""
    edit(project, "problem: {kind: multiclass}", "problem: {kind: segmentation, classes: [a, b]}")
    code, said, errors = run(project)
    assert code == 1
    assert errors.strip().splitlines()[-1].startswith("error: ")
    assert "Traceback" not in said + errors
    assert mlflow_runs(project)[-1][1] == "FAILED"
    assert prefect_runs(project)[-1][1] == "FAILED"
    [(message,)] = ask(
        project / ".temper" / "prefect" / "prefect.db",
        "SELECT s.message FROM task_run t JOIN task_run_state s ON s.id = t.state_id "
        "WHERE t.state_type = 'FAILED'",
    )
    assert errors.strip().endswith(message)


def train_for_long(project: Path) -> "subprocess.Popen[str]":
    """Start a run and return when its training has written a checkpoint and its curve has begun in MLflow."""
    process = start(project)
    points = (
        "SELECT COUNT(*) FROM metrics JOIN runs USING (run_uuid) "
        "WHERE runs.status = 'RUNNING' AND key LIKE 'train/%'"
    )
    until = time.monotonic() + 240
    while not ask(project / "mlruns" / "mlflow.db", points)[0][0]:
        assert process.poll() is None and time.monotonic() < until, process.communicate()
        time.sleep(0.5)
    return process


def gone(project: Path, process: "subprocess.Popen[str]") -> tuple[int, str, str]:
    """Return how a run ended that was just asked to end: exit status, stdout and stderr.

    No process of the run may be left after half a minute.
    """
    until = time.monotonic() + 30
    while (process.poll() is None or subprocesses.marked(MARK, str(project))) and time.monotonic() < until:
        time.sleep(0.2)
    assert subprocesses.marked(MARK, str(project)) == []
    said, errors = process.communicate(timeout=20)
    return process.returncode, said, errors


def steps_of(said: str) -> list[int]:
    """Return the steps at which trainings stopped or resumed, according to their output."""
    return [int(step) for step in re.findall(r"(?:stopped|resuming) at step (\d+)", said)]


def cancel(project: Path) -> None:
    """Cancel the run on its server, as Cancel in Prefect's pages does."""
    [server] = [each for each in subprocesses.marked(MARK, str(project)) if "uvicorn" in each.cmdline()]
    port = server.cmdline()[server.cmdline().index("--port") + 1]
    [(run,)] = ask(
        project / ".temper" / "prefect" / "prefect.db", "SELECT id FROM flow_run WHERE state_type = 'RUNNING'"
    )
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/api/flow_runs/{uuid.UUID(run)}/set_state",
        json.dumps({"state": {"type": "CANCELLING"}}).encode(),
        {"Content-Type": "application/json"},
    )
    urllib.request.urlopen(request, timeout=10).close()


def test_however_a_run_is_ended_all_of_it_ends_and_the_next_goes_on(project: Path):
    edit(project, "epochs: 2", "epochs: 2000")
    before = len(mlflow_runs(project))
    stopped = 0
    for how in ("Ctrl-C", "closed terminal", "cancel", "kill"):
        process = train_for_long(project)
        if how == "cancel":
            cancel(project)
        else:
            signals = {"Ctrl-C": signal.SIGINT, "closed terminal": signal.SIGHUP, "kill": signal.SIGKILL}
            process.send_signal(signals[how])
        code, said, errors = gone(project, process)
        assert code == (-signal.SIGKILL if how == "kill" else 130), errors
        assert "Traceback" not in errors
        began = steps_of(said)
        assert began == ([stopped] if stopped else []), "it continues where the previous run stopped"
        if how in ("Ctrl-C", "cancel"):
            assert "the same command" in errors
            [stopped] = steps_of(errors)
        else:
            stopped = max(
                int(path.name.split("-")[3])
                for path in (project / ".temper" / "checkpoints").glob("*/*.safetensors")
            )
    assert ("teacher", "RUNNING") in mlflow_runs(project)
    edit(project, "epochs: 2000", "epochs: 2")  # the old value, so everything is restored from DVC's cache
    code, said, errors = run(project)
    assert code == 0, errors
    assert "closed" in said and "train: restored" in said
    assert {status for _, status in mlflow_runs(project)[before:]} == {"KILLED", "FINISHED"}
    assert [state for _, state in prefect_runs(project)][1:] == [
        "CRASHED",
        "CRASHED",
        "CANCELLED",
        "CRASHED",
        "COMPLETED",
    ]


def test_a_step_of_whose_end_the_server_did_not_hear_is_given_one(project: Path):
    database = project / ".temper" / "prefect" / "prefect.db"
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute(
            "UPDATE task_run SET state_type = 'RUNNING', state_name = 'Running' WHERE name = 'register'"
        )
    code, said, errors = run(project)
    assert code == 0, errors
    assert "closed 1 records of runs that were killed" in said
    assert prefect_runs(project, "task_run") == [(name, "COMPLETED") for name in STEPS]


def test_one_at_a_time(project: Path):
    with project_lock.exclusive(Project.at(project)):
        code, _, errors = run(project)
        assert code == 2 and f"(process {os.getpid()})" in errors and "BUSY=wait" in errors
        code, said, _ = run(project, "--busy", "skip")
        assert code == 75 and "skipped" in said
        waiting = start(project, "--busy", "wait")
        assert waiting.stdout is not None
        while "waiting for it to end" not in (line := waiting.stdout.readline()):
            assert line and waiting.poll() is None
    said, _ = waiting.communicate(timeout=120)
    assert waiting.returncode == 0 and "nothing to do" in said


def test_a_registry_that_is_damaged_or_gone_is_named_with_its_cure_and_not_begun_anew(project: Path):
    database = project / "mlruns" / "mlflow.db"
    before = mlflow_runs(project)
    for state in ("damaged", "empty", "missing"):
        content = database.read_bytes()
        database.unlink()
        if state != "missing":
            database.write_bytes(content[:-8192] if state == "damaged" else b"")
        code, _, errors = run(project)
        assert code == 2 and f"{database} is {state} (" in errors
        assert f"`make restore PROJECT={project}` restores the backup of" in errors
        assert state == "damaged" or f"delete the folder {project}/mlruns)" in errors
        assert look(project, "restore")[0] == 0
        assert mlflow_runs(project) == before
    code, said, errors = run(project)
    assert code == 0 and "nothing to do" in said, errors


def test_a_parameter_of_quantize_that_changes_before_and_while_it_runs(
    project: Path, prefect_server: dict[str, str]
):
    edit(project, "calibration_images: 64", "calibration_images: 72")
    code, said = look(project, "plan")
    assert code == 0
    assert "params quantize.calibration_images 64 → 72" in said
    assert planned(said) == ["quantize", "evaluate", "measure", "register"]
    shutil.rmtree(project / ".temper" / "work" / "quantize", ignore_errors=True)
    process = start(project, variables=prefect_server)
    while not (project / ".temper" / "work" / "quantize").exists():  # the stage has read its parameters
        assert process.poll() is None
        time.sleep(0.05)
    edit(project, "calibration_images: 72", "calibration_images: 80")
    said, errors = process.communicate(timeout=400)
    assert process.returncode == 1 and "evaluate: measure" not in said
    assert re.search(
        "^error: parameters of quantize changed while it ran, so its result was not", errors, re.M
    )
    code, said, errors = run(project, variables=prefect_server)
    assert code == 0 and "version 2" in said, errors
    assert ran(said) == ["quantize", "evaluate"]
    assert "train: up to date" in said
    assert len(mlflow_runs(project)) == 9
    values = (
        "SELECT value FROM params JOIN runs USING (run_uuid) WHERE key = 'quantize.calibration_images' "
        "ORDER BY start_time DESC"
    )
    assert ask(project / "mlruns" / "mlflow.db", values)[0] == ("80",)
    code, said, errors = run(project, "--force", "quantize", variables=prefect_server)
    assert code == 0, errors
    assert "FORCE" in said
    assert ran(said) == ["quantize"], "the result is the same, so later stages are up to date"


def test_mistakes_are_found_before_anything_starts(tmp_path: Path):
    project = make_project(tmp_path / "project", "multiclass")
    edit(project, "seed: 0", "sed: 0")
    code, _, errors = run(project)
    assert (code, errors.count("\n")) == (2, 1)
    assert "unknown key sed; the nearest known one is 'seed'" in errors
    assert not (project / ".temper" / "prefect").exists()
    assert run(tmp_path / "nowhere")[0] == 2
