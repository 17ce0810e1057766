"""Trainings that are killed, stopped or orphaned.

Nothing is lost, no process is left behind, and the same command continues.
"""

import csv
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.project import ROOT, make_project, run_stage, run_until
from tests.ranks.test_ranks import TOLERANCE, curves

GONE_S = 10.0
SEED = 7
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A toy project up to augment, whose training takes some seconds and writes checkpoints all the time."""
    project = make_project(tmp_path_factory.mktemp("prepared"), "multiclass", count=480, epochs=24)
    text = (
        (project / "params.yaml")
        .read_text()
        .replace("precision: fp32", "precision: fp32, checkpoint_s: 0.05")
    )
    (project / "params.yaml").write_text(text)
    run_until(project, "augment")
    return project


def copy(prepared: Path, target: Path, ranks: int) -> Path:
    shutil.copytree(prepared, target)
    set_ranks(target, ranks)
    return target


def set_ranks(project: Path, ranks: int) -> None:
    path = project / "params.yaml"
    path.write_text(re.sub(r"ranks: \d", f"ranks: {ranks}", path.read_text()))


def without_checkpoints(project: Path) -> None:
    """Let a training that nobody interrupts write only its last checkpoint, which is faster."""
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("checkpoint_s: 0.05", "checkpoint_s: 60"))


@pytest.fixture(scope="module", params=[1, 2])
def whole(
    prepared: Path, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[int, Path]:
    """An uninterrupted training, and its number of ranks."""
    project = copy(prepared, tmp_path_factory.mktemp("whole") / "project", request.param)
    without_checkpoints(project)
    done = run_stage(project, "train")
    assert done.returncode == 0, done.stderr[-2000:]
    return request.param, project


class Running:
    """A training in its own process tree."""

    def __init__(self, project: Path) -> None:
        self.project, self.log = project, project / "log"
        command = [sys.executable, "-m", "temper", "stage", "train", "--project", str(project)]
        with self.log.open("w") as log:
            self.door = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        self.tree: list[psutil.Process] = []

    def look(self) -> None:
        """List the tree's processes: the command (`door`), the agent if there is one, the ranks in order."""
        root = psutil.Process(self.door.pid)
        self.tree = [root, *sorted(root.children(recursive=True), key=lambda process: process.pid)]

    def wait_for_step(self, step: int) -> None:
        """Wait until the newest checkpoint has this step or a later one."""
        end = time.monotonic() + 240
        while time.monotonic() < end and self.door.poll() is None:
            names = [path.name for path in self.project.glob(".temper/checkpoints/*/*.safetensors")]
            if any(int(name.split("-")[3]) >= step for name in names):
                self.look()
                return
            time.sleep(0.01)
        raise AssertionError(f"no step {step}: {self.log.read_text()}")

    def gone(self, within_s: float = GONE_S) -> float:
        """Wait until no process of the tree is left; return the seconds that it took."""
        started = time.monotonic()
        self.door.wait(timeout=within_s)
        _, alive = psutil.wait_procs(self.tree, timeout=max(0.1, within_s - (time.monotonic() - started)))
        for process in alive:
            process.kill()
        assert not alive, [(process.pid, process.cmdline()) for process in alive]
        return time.monotonic() - started

    def say(self) -> str:
        return self.log.read_text()


def newest_step(project: Path) -> int:
    return max(int(path.name.split("-")[3]) for path in project.glob(".temper/checkpoints/*/*.safetensors"))


def digests(project: Path) -> tuple[str, dict[str, str]]:
    record = json.loads((project / "artifacts" / "train" / "artifact.json").read_text())
    return record["digest"], record["files"]


def kill(process: psutil.Process) -> None:
    # The process may have ended already.
    if process.is_running():
        process.send_signal(signal.SIGKILL)


INTERRUPTIONS = {
    1: [("end", "door"), ("kill", "door"), ("end", "0"), ("kill", "0"), ("kill", "all")],
    2: [("end", "all"), ("kill", "agent"), ("end", "0"), ("kill", "1")],
}
"""Number of ranks -> what happens to which processes of a training, one after the other."""


def interrupt(running: Running, how: str, victims: str) -> None:
    door, *rest = running.tree
    agent = rest[:-2]  # a single rank has none
    chosen = {"door": [door], "agent": agent, "all": running.tree}.get(victims) or [
        rest[len(agent) + int(victims)]
    ]
    for process in chosen:
        if how == "kill":
            kill(process)
        else:
            process.terminate()


def check_words(running: Running, how: str, victims: str) -> None:
    """Check the exit status and the messages of a training that was interrupted."""
    said, status = running.say(), running.door.returncode
    assert "Traceback" not in said
    if how == "kill":
        assert status != 0
        if victims in "01":
            assert status == 1 and f"error: rank {victims} was ended by SIGKILL" in said, said
            assert re.search(r"run the same command again .*last checkpoint", said)
        return
    assert status == 143, said
    found = re.search(r"stopped at step (\d+) of 216; .*same command", said)
    assert found is not None or victims == "1", said
    if found is not None:
        assert int(found[1]) == newest_step(running.project) and said.count("stopped at") == 1


def test_interrupted_in_every_way_it_leaves_nobody_behind_and_ends_with_the_same_model(
    whole: tuple[int, Path], prepared: Path, tmp_path: Path
):
    ranks, undisturbed = whole
    project = copy(prepared, tmp_path / "project", ranks)
    chance = random.Random(SEED)
    reached = 0
    for number, (how, victims) in enumerate(INTERRUPTIONS[ranks]):
        running = Running(project)
        # The run before may have gone further than planned, and its checkpoints are there at once.
        running.wait_for_step(max(40 * number + chance.randrange(1, 20), reached + 1))
        assert len(running.tree) == (2 if ranks == 1 else 2 + ranks)
        # Checkpoints are written all the time, so some of the kills interrupt a write.
        time.sleep(chance.uniform(0, 0.05))
        interrupt(running, how, victims)
        running.gone()
        check_words(running, how, victims)
        began = re.search(r"resuming at step (\d+)", running.say())
        assert (int(began[1]) if began else 0) == reached, "it continues where the previous one stopped"
        reached = newest_step(project)
    journal = project / ".temper" / "work" / "train" / "journal.jsonl"
    journal.write_text('{"step": 1, "ep')
    done = run_stage(project, "train")
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"resuming at step {reached} of" in done.stdout
    assert digests(project) == digests(undisturbed)


def test_with_restarts_a_lost_rank_is_made_up_for_without_a_new_command(
    whole: tuple[int, Path], prepared: Path, tmp_path: Path
):
    ranks, undisturbed = whole
    project = copy(prepared, tmp_path / "project", ranks)
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("train:\n", "train:\n  hosts: {most: 1, restarts: 2}\n"))
    running = Running(project)
    running.wait_for_step(20)
    kill(running.tree[-1])
    running.door.wait(timeout=240)
    said = running.say()
    assert running.door.returncode == 0, said
    assert re.search(r"train: ranks were lost; .*last checkpoint \(2 restarts", said)
    assert re.search(r"resuming at step \d+", said) and "Traceback" not in said
    assert digests(project) == digests(undisturbed)


@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2)])
def test_another_number_of_ranks_goes_on(
    whole: tuple[int, Path], prepared: Path, tmp_path: Path, before: int, after: int
):
    ranks, undisturbed = whole
    if ranks != before:
        pytest.skip("the other way round is the other whole training's")
    project = copy(prepared, tmp_path / "project", before)
    running = Running(project)
    running.wait_for_step(12)
    for process in reversed(running.tree):
        kill(process)
    running.gone()
    at = newest_step(project)
    set_ranks(project, after)
    done = run_stage(project, "train")
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"resuming at step {at} of" in done.stdout
    alone, together = curves(undisturbed), curves(project)
    assert alone.keys() == together.keys()
    losses = sorted(key for key in alone if key[1] == "train/loss")
    assert [together[key] for key in losses if key[0] <= at] == [alone[key] for key in losses if key[0] <= at]
    # Differences in the last bit grow with the steps (two whole trainings, with one rank and with two, differ
    # by a quarter at step 31), so only the first entry after the change is compared.
    for key in [key for key in losses if at < key[0]][:1]:
        assert together[key] == pytest.approx(alone[key], rel=TOLERANCE), key


def test_the_curves_have_no_gap_and_no_double_step(whole: tuple[int, Path]):
    _, project = whole
    with (project / "artifacts" / "train" / "curves.csv").open() as stream:
        rows = [(int(row["step"]), row["name"]) for row in csv.DictReader(stream)]
    assert len(rows) == len(set(rows))
    assert [step for step, name in rows if name == "train/loss"] == [*range(1, 216, 10), 216]
