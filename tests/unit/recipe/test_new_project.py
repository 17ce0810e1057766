"""`make init` in one process: a folder becomes a project whose first stages run."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from typer.testing import CliRunner

from temper.artifacts import load as load_artifact
from temper.cli.main import app, compute_as_ranks_do
from temper.cli.project_commands import init_project
from temper.commands.time_estimates import read_estimates
from temper.commands.workload import measure_workload
from temper.config import load
from temper.engine import step_timing
from temper.networks import pretrained
from temper.recipe import new_project as recipe
from temper.recipe import weights
from temper.recipe.new_project import check_place, name_project, place_project
from temper.stages import BY_NAME
from temper.stages.dvc_yaml import dvc_yaml
from temper.stages.run_stage import run_stage
from tests.project import make_project, run_until
from tests.unit.recipe.images import fill


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_timing, "_ENOUGH", 2)
    monkeypatch.setattr(step_timing, "_ENOUGH_S", 0.0)
    monkeypatch.setattr(recipe, "find_weights", list)


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("size", [(24, 30), (50, 56)])
def test_a_folder_becomes_a_project_whose_stages_run(
    tmp_path: Path, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    fill(tmp_path / "My Pets", {"cat": 60, "dog": 40}, size=size)
    monkeypatch.chdir(tmp_path)
    init_project(Path("My Pets"), minutes=3)
    said = capsys.readouterr().out
    assert "saw: 100 images, 2 classes (cat 60, dog 40)" in said
    where = f"PROJECT={shlex.quote(str(tmp_path / 'my-pets'))}"
    assert f"next: make plan {where}    make pipeline {where}" in said
    assert [line.split(":")[0] for line in said.splitlines()[-4:-1]] == ["train", "distill", "evaluate"]
    project = tmp_path / "my-pets"
    params = load(project)
    assert (project / "dvc.yaml").read_text() == dvc_yaml(project, params)
    # `make plan` reads the stored estimates.
    assert set(read_estimates(project, params, measure_workload(project, params))) == {
        "train",
        "distill",
        "evaluate",
    }
    for stage in ("ingest", "prepare", "augment"):
        run_stage(BY_NAME[stage], project)
    counts = load_artifact("prepare", project / "artifacts" / "prepare").facts["examples"]
    assert counts == {"train": 63, "validation": 12, "test": 25}


def test_nothing_is_overwritten_unasked(tmp_path: Path):
    data = fill(tmp_path / "pets", {"cat": 1})
    (tmp_path / "project").mkdir()
    check_place(data, tmp_path / "project", force=False)
    (tmp_path / "project" / "params.yaml").write_text("mine")
    with pytest.raises(
        ValueError, match=r"params\.yaml exists; give another folder with PROJECT=\.\.\., or FORCE=1"
    ):
        check_place(data, tmp_path / "project", force=False)
    check_place(data, tmp_path / "project", force=True)


def test_a_project_never_lies_among_the_class_folders(tmp_path: Path):
    data = fill(tmp_path / "pets", {"cat": 1})
    assert place_project(data, tmp_path) == tmp_path / "pets-project"
    assert place_project(data, tmp_path / "elsewhere") == tmp_path / "elsewhere" / "pets"
    for place in (data, data / "project"):
        with pytest.raises(ValueError, match="whose folders are classes; give another folder"):
            check_place(data, place, force=True)
    check_place(data, tmp_path, force=False)


def test_a_project_that_git_ignores_is_refused_since_dvc_would_refuse_it(tmp_path: Path):
    data = fill(tmp_path / "pets", {"cat": 1})
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/scratch/\n")
    check_place(data, tmp_path / "project", force=False)
    with pytest.raises(ValueError, match=r"PROJECT = '.*scratch/project': git ignores .*PROJECT=\.\.\."):
        check_place(data, tmp_path / "scratch" / "project", force=True)


def test_too_little_time_is_refused_before_anything_is_looked_at(tmp_path: Path):
    with pytest.raises(ValueError, match="MINUTES = 1: must be 2 or more"):
        init_project(tmp_path / "nowhere", minutes=1)


def test_of_the_weights_on_this_machine_those_that_were_tried_are_taken(monkeypatch: pytest.MonkeyPatch):
    there = [
        ("timm", "vit_giant.x"),
        ("timm@abc", "resnet18.a1_in1k"),
        ("package:lite", "tf_efficientnet_lite0"),
    ]
    known = [
        pretrained.Available(reference, backbone, (224, 224), "Apache-2.0") for reference, backbone in there
    ]
    monkeypatch.setattr(weights, "available_weights", lambda: known)
    assert [(each.backbone, each.weights) for each in weights.find_weights()] == [
        ("tf_efficientnet_lite0", "package:lite"),
        ("resnet18.a1_in1k", "timm@abc"),
    ]


def test_help_has_an_example():
    said = CliRunner().invoke(app, ["init", "--help"], env={"COLUMNS": "200", "TERM": "dumb"}).output
    assert "temper init ~/pets --project pets --minutes 10" in said


@pytest.mark.parametrize(("command", "again"), [("estimate", True), ("init", True), ("measure", False)])
def test_steps_are_timed_with_the_variables_of_a_rank(
    command: str, again: bool, monkeypatch: pytest.MonkeyPatch
):
    started = []
    monkeypatch.setattr(os, "execve", lambda *arguments: started.append(arguments))
    monkeypatch.setattr(sys, "argv", ["temper", command, "x"])
    monkeypatch.delenv("GOMP_SPINCOUNT", raising=False)
    monkeypatch.delitem(sys.modules, "torch")
    compute_as_ranks_do()
    assert [each[1][1:] for each in started] == ([["-m", "temper", command, "x"]] if again else [])
    assert all({"GOMP_SPINCOUNT", "OMP_NUM_THREADS", "GLIBC_TUNABLES"} <= set(each[2]) for each in started)
    for name, value in started[0][2].items() if started else ():
        monkeypatch.setenv(name, value)
    compute_as_ranks_do()
    assert len(started) == again, "only once"


@pytest.mark.parametrize(("busy", "said"), [(5.0, False), (95.0, True)])
def test_a_busy_machine_is_told(busy: float, said: bool, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(psutil, "cpu_percent", lambda interval, percpu: [busy] * 1024)
    assert any("once the machine is idle" in line for line in recipe._say_busy()) == said
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {2000, 2001})
    assert any("once the machine is idle" in line for line in recipe._say_busy()) == said


def test_a_name_is_that_of_the_project_in_ascii():
    assert name_project(Path("/x/Süße Früchte")) == "susse-fruchte"
    assert name_project(Path("my risse")) == "my-risse"


@pytest.mark.parametrize("minutes", [float("nan"), 0.0, -1.0, 1e9])
def test_minutes_that_make_no_sense_are_refused(tmp_path: Path, minutes: float):
    with pytest.raises(ValueError, match=r"MINUTES = .*: must be 2 or more"):
        recipe.write_project(tmp_path, tmp_path / "project", minutes=minutes)


def test_the_examples_are_counted_anew_over_artifacts_of_an_earlier_run(tmp_path: Path):
    project = make_project(tmp_path / "project", "multiclass")
    run_until(project, "augment")
    params = load(project)
    assert measure_workload(project, params).exact
    assert not measure_workload(project, params, anew=True).exact
