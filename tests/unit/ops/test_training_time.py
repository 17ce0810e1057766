"""The time that is reported before a run. An estimate that fails never ends a run."""

from pathlib import Path

import pytest

from temper.commands.time_estimates import Estimate, write_estimates
from temper.commands.workload import measure_workload
from temper.config import Params, load
from temper.ops.pipeline import plan, training_time
from temper.ops.project import Project
from temper.ops.system.subprocesses import Ended
from tests.project import make_project

STEPS = tuple(plan.Step(name, (plan.NEVER,)) for name in ("ingest", "train", "distill", "evaluate"))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with so many draws that its trainings are timed."""
    folder = make_project(tmp_path / "project", "multiclass", count=80_000, epochs=4)
    return Project.at(folder)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, project: Project) -> list[list[str]]:
    """The stages of each command that was run; every command estimates 50 minutes for each stage."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> Ended:
        commands.append(command[command.index("estimate") + 1 :])
        params = load(project.folder)
        found = {name: Estimate(seconds=3000, words="1,000 steps of 3 s") for name in commands[-1]}
        write_estimates(project.folder, params, measure_workload(project.folder, params), found)
        return Ended(0, (), ())

    monkeypatch.setattr(training_time.subprocesses, "run", run)
    return commands


def params_of(project: Project) -> Params:
    return load(project.folder)


def test_each_long_stage_has_a_line_and_a_very_long_training_a_warning(
    project: Project, asked: list[list[str]]
):
    lines = training_time.report_lines(project, params_of(project), STEPS)
    assert lines[0] == "train: about 50 min on this machine: 1,000 steps of 3 s"
    assert lines[1].startswith("warning: train takes more than plan.warn_minutes = 30.")
    assert [line.split(":")[0] for line in lines[2:5]] == ["distill", "warning", "evaluate"]
    assert lines[-1].startswith("together about 2.5 h")
    assert asked == [["train", "distill", "evaluate"]]
    assert training_time.report_lines(project, params_of(project), STEPS) == lines
    assert len(asked) == 1, "stages with an estimate are not timed again"


def test_only_what_runs_is_timed(project: Project, asked: list[list[str]]):
    steps = (plan.Step("train", ()), plan.Step("distill", ("params distill.fit.lr 0.1 → 0.2",)))
    assert training_time.report_lines(project, params_of(project), steps)[0].startswith(
        "distill: at most about 50 min"
    )
    assert asked == [["distill"]]
    assert training_time.report_lines(project, params_of(project), (plan.Step("evaluate", ("x",)),)) == []


def test_a_training_that_was_begun_takes_at_most_that(project: Project, asked: list[list[str]]):
    folder = project.hidden / "checkpoints" / "abc"
    folder.mkdir(parents=True)
    (folder / "stage").write_text("train")
    lines = training_time.report_lines(project, params_of(project), STEPS)
    assert lines[0].startswith("train: at most about 50 min")
    assert lines[2].startswith("distill: about 50 min")


def test_little_work_is_not_timed(tmp_path: Path, asked: list[list[str]]):
    small = Project.at(make_project(tmp_path / "small", "multiclass"))
    assert training_time.report_lines(small, params_of(small), STEPS) == []
    assert asked == []


def test_an_estimate_that_fails_is_a_line(project: Project, monkeypatch: pytest.MonkeyPatch):
    ended = Ended(2, (), ("chatter", "error: backbone: this network cannot take so small images"))
    monkeypatch.setattr(training_time.subprocesses, "run", lambda *_, **__: ended)
    [line] = training_time.report_lines(project, params_of(project), STEPS)
    assert line.endswith("could not be estimated: backbone: this network cannot take so small images")
    monkeypatch.setattr(training_time.subprocesses, "run", lambda *_, **__: Ended(-9, (), ()))
    assert "SIGKILL" in training_time.report_lines(project, params_of(project), STEPS)[0]
