"""The module that calls DVC, on a repository with one stage."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from temper.ops import dvc, dvc_repair
from temper.ops.project import Project

DVC_YAML = """
stages:
  one:
    cmd: python one.py
    deps: [code]
    params: [seed]
    outs: [artifacts/one]
"""
ONE = """
import os, pathlib, signal, sys
code = pathlib.Path("code").read_text()
if code == "bad":
    sys.exit("error: code is bad; fix it")
if code == "deadly":
    os.kill(os.getpid(), signal.SIGKILL)
if code == "told":
    sys.exit(128 + signal.SIGTERM)
if code == "silent":
    sys.exit(3)
pathlib.Path("artifacts/one").mkdir(parents=True)
pathlib.Path("artifacts/one/code").write_text(code)
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path
    (folder / "dvc.yaml").write_text(DVC_YAML)
    (folder / "one.py").write_text(ONE)
    (folder / "params.yaml").write_text("seed: 1e-3\n")
    (folder / "code").write_text("good")
    return Project.at(folder)


def test_a_stage_runs_once_and_comes_back_from_the_cache(project: Project, capfd: pytest.CaptureFixture[str]):
    assert dvc.prepare(project)
    assert not dvc.prepare(project)
    assert dvc.out_digest(project, "one") is None
    assert list(dvc.status(project)) == ["one"]

    assert dvc.repro(project, "one").state == "ran"
    assert capfd.readouterr() == ("", ""), "DVC's own lines are hidden"
    assert dvc.status(project) == {}
    digest = dvc.out_digest(project, "one")
    assert digest is not None and digest.endswith(".dir") and len(digest) == 36
    assert dvc.recorded_params(dvc.recorded(project)["one"]) == {"seed": 0.001} == dvc.current_params(project)
    assert dvc.repro(project, "one").state == "up to date"

    (project.folder / "code").write_text("bad")
    outcome = dvc.repro(project, "one")
    assert (outcome.state, outcome.message, outcome.told) == ("failed", "code is bad; fix it", True)
    assert capfd.readouterr().err == "error: code is bad; fix it\n"

    (project.folder / "code").write_text("good")
    assert dvc.repro(project, "one").state == "restored"
    assert dvc.out_digest(project, "one") == digest

    (project.folder / "code").unlink()
    outcome = dvc.repro(project, "one")
    assert outcome.state == "failed" and not outcome.told and "code" in outcome.message


def test_results_are_checked_out_from_a_cache_that_repositories_share(
    project: Project, tmp_path_factory: pytest.TempPathFactory
):
    shared = tmp_path_factory.mktemp("shared")
    dvc.prepare(project)
    with (project.folder / ".dvc" / "config").open("a") as config:
        config.write(f"[cache]\n    dir = {shared}\n")
    assert dvc.repro(project, "one").state == "ran"
    assert dvc.cache_folder(project) == shared and any(shared.iterdir())

    other = Project.at(tmp_path_factory.mktemp("other"))
    for name in ("dvc.yaml", "dvc.lock"):
        shutil.copy(project.folder / name, other.folder / name)
    dvc.check_out(other, ("one",), cache_of=project)
    assert (other.artifacts / "one" / "code").read_text() == "good"


@pytest.mark.parametrize(
    ("code", "pattern"),
    [
        ("deadly", r"\bone\b.* SIGKILL; .*run the same command again"),
        ("told", r"\bone\b.* SIGTERM; .*run the same command again"),
        ("silent", r"\bone\b.* status 255; .*run the same command again"),
    ],
)
def test_a_stage_that_says_nothing_is_told_of(project: Project, code: str, pattern: str):
    dvc.prepare(project)
    (project.folder / "code").write_text(code)
    outcome = dvc.repro(project, "one")
    assert outcome.state == "failed" and not outcome.told
    assert re.search(pattern, outcome.message), outcome.message


def test_asking_dvc_while_it_works_names_no_lock_to_remove(project: Project):
    dvc.prepare(project)
    assert dvc.repro(project, "one").state == "ran"
    holder = {"pid": os.getpid(), "cmd": "dvc repro"}
    register = {"write": {str(project.folder / "artifacts" / "one"): holder}, "read": {}}
    (project.folder / ".dvc" / "tmp" / "rwlock").write_text(json.dumps(register))
    with pytest.raises(ValueError, match=rf"DVC is busy in {project.folder}\b.*try again") as caught:
        dvc.status(project)
    assert "rwlock" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("  md5:", "  mdZ:"),
        ("  size: ", "  size: x"),
        ("    deps:", "    depz:"),
        ("    cmd: ", "    cmd: 5 #"),
    ],
)
def test_a_dvc_lock_that_dvc_would_refuse_is_put_aside(project: Project, old: str, new: str):
    dvc.prepare(project)
    assert dvc.repro(project, "one").state == "ran"
    lock = project.folder / "dvc.lock"
    assert old in lock.read_text()
    lock.write_text(lock.read_text().replace(old, new, 1))
    with pytest.raises(ValueError):
        dvc.status(project)
    project.hidden.mkdir(exist_ok=True)
    assert "dvc.lock.damaged" in str(dvc_repair.repair_lock(project))
    shutil.rmtree(project.artifacts)
    assert dvc.repro(project, "one").state == "restored"


def test_what_a_killed_dvc_leaves_is_swept_away(project: Project):
    """DVC leaves an empty entry in its run-cache, a truncated dvc.lock, and a truncated register."""
    dvc.prepare(project)
    assert dvc.repro(project, "one").state == "ran"
    for entry in (project.folder / ".dvc" / "cache" / "runs").glob("*/*/*"):
        entry.unlink()
    shutil.rmtree(project.folder / "artifacts", ignore_errors=True)
    lock = project.folder / "dvc.lock"
    assert dvc_repair.repair_lock(project) is None
    whole = lock.read_text()
    end = whole.index("md5:", whole.index("outs:")) + 36  # within the digest: the rest is valid YAML
    lock.write_text(whole[:end])
    project.hidden.mkdir(exist_ok=True)
    assert "was damaged" in str(dvc_repair.repair_lock(project)) and not lock.exists()
    register = project.folder / ".dvc" / "tmp" / "rwlock"
    assert dvc_repair.repair_register(project) is None
    register.write_text('{"read": {"')
    dvc_repair.release_dead(project)
    assert register.read_text() == '{"read": {"', "a truncated register is left to `repair_register`"
    assert "rwlock was truncated" in str(dvc_repair.repair_register(project))
    assert dvc_repair.repair_lock(project) is None
    assert dvc.repro(project, "one").state == "ran"


def test_what_dead_processes_hold_is_released(tmp_path: Path):
    project = Project.at(tmp_path)
    dvc.prepare(project)
    dvc_repair.release_dead(project)  # there is no register yet
    living = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "dvc", "repro"])
    ended = subprocess.Popen([sys.executable, "-c", "pass", "dvc", "repro"])
    while psutil.Process(ended.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    holders = {
        "living": {"pid": living.pid, "cmd": "dvc repro"},
        "ended, but not waited for": {"pid": ended.pid, "cmd": "dvc repro"},
        "another has its number": {"pid": living.pid, "cmd": "dvc status"},
        "gone": {"pid": 2**22 + 1, "cmd": "dvc repro"},
    }
    register = project.folder / ".dvc" / "tmp" / "rwlock"
    register.write_text(
        json.dumps({"read": {name: [each] for name, each in holders.items()}, "write": {**holders}}),
        encoding="utf-8",
    )
    dvc_repair.release_dead(project)
    living.kill()
    living.wait()
    ended.wait()
    kept = holders["living"]
    assert json.loads(register.read_text()) == {"read": {"living": [kept]}, "write": {"living": kept}}


def test_what_dvc_cannot_read_is_said(tmp_path: Path):
    (tmp_path / "dvc.yaml").write_text("stages: {one: {cmd: [}}")
    dvc.prepare(Project.at(tmp_path))
    with pytest.raises(ValueError, match=r"dvc .*status.* failed: .*dvc\.yaml"):
        dvc.status(Project.at(tmp_path))
