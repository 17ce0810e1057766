"""Tests of the harness itself: a check that cannot fail proves nothing."""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from temper.ops.project import MARK, Project
from tests.faults import damage, report
from tests.faults.__main__ import main
from tests.faults.plans import KINDS, draw
from tests.faults.processes import kill_all, left_behind, roles
from tests.faults.runs import Run, repair
from tests.faults.trial import FAILED, MISSED, RECOVERED, Result


@pytest.fixture
def refused(tmp_path: Path) -> Run:
    """A run that has failed at once, because its folder has no params.yaml."""
    (tmp_path / "project").mkdir()
    run = Run(Project.at(tmp_path / "project"), tmp_path / "logs" / "run")
    assert run.wait() == 2
    return run


def with_errors(run: Run, text: str) -> Run:
    """Replace the standard error of a run."""
    run._err.write_text(text, encoding="utf-8")
    return run


def test_a_seed_is_a_trial():
    plans = [draw(seed) for seed in range(2000)]
    assert plans == [draw(seed) for seed in range(2000)]
    kinds = Counter(plan.kind for plan in plans)
    assert all(abs(kinds[kind] / 2000 - share) < 0.05 for kind, share in KINDS.items())
    assert {plan.start.ranks for plan in plans} == {1, 2}
    assert any(plan.start.nothing for plan in plans)
    assert {(plan.how, plan.by) for plan in plans if plan.kind == "damage"} == {
        (how, by) for how in ("flip", "cut", "delete") for by in ("finished", "killed")
    }


def test_a_kind_is_picked_by_seed(capsys: pytest.CaptureFixture[str]):
    assert main(["--list", "--trials", "5", "--kind", "server"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert all(draw(int(line.split(" | ")[0])).kind == "server" for line in lines)


def test_tracebacks_and_missing_errors_are_faults(refused: Run):
    assert refused.faults() == []
    assert refused.paragraph().startswith("error: ")
    [fault] = with_errors(refused, "Traceback (most recent call last)\nKeyError: 'x'\nerror: x\n").faults()
    assert "traceback (KeyError: 'x')" in fault
    [fault] = with_errors(refused, "it went wrong\n").faults()
    assert "without an `error:` paragraph" in fault


def test_the_commands_of_an_error_are_run(refused: Run, tmp_path: Path):
    rotten = refused.project.folder / "rotten"
    rotten.touch()
    assert repair(
        with_errors(refused, "error: `rotten` is bad; run `rm rotten`, then `make pipeline`\n")
    ) == (
        ["rm rotten", "make pipeline"],
        [],
    )
    assert not rotten.exists()
    assert "fails" in repair(with_errors(refused, "error: run `rm rotten`\n"))[1][0]
    beside = tmp_path / "beside"
    beside.touch()
    assert "outside the project" in repair(with_errors(refused, f"error: run `rm {beside}`\n"))[1][0]
    assert "does not name the project" in repair(with_errors(refused, "error: run `make clean`\n"))[1][0]
    assert beside.exists()


@pytest.mark.parametrize("how", ["mark", "command line"])
def test_what_is_left_behind_is_found(tmp_path: Path, how: str):
    project = Project.at(tmp_path)
    environment = {**os.environ, MARK: str(project.folder)} if how == "mark" else None
    arguments = [str(project.folder / "x")] if how == "command line" else []
    script = "import time; time.sleep(60)"
    process = subprocess.Popen([sys.executable, "-c", script, *arguments], env=environment)
    try:
        time.sleep(0.5)
        assert str(process.pid) in left_behind(project, grace_s=0.1)[0]
        assert left_behind(Project.at(tmp_path / "other"), grace_s=0.1) == []
        kill_all(project)
        process.wait(timeout=5)
        assert left_behind(project, grace_s=0.1) == []
    finally:
        process.kill()
        process.wait()


def test_roles():
    import psutil

    assert [*roles([psutil.Process()])] == [psutil.Process().name()]


def test_damage_changes_the_file(tmp_path: Path):
    file = tmp_path / "artifacts" / "train" / "weights"
    file.parent.mkdir(parents=True)
    for seed in range(20):
        before = random.Random(seed).randbytes(50)
        file.write_bytes(before)
        damage.flip(file, random.Random(seed))
        assert (int.from_bytes(before) ^ int.from_bytes(file.read_bytes())).bit_count() == 1
        file.write_bytes(before)
        damage.cut(file, random.Random(seed))
        assert before.startswith(file.read_bytes())
        assert file.stat().st_size < 50
        file.write_bytes(before)
    assert damage.spoil(Project.at(tmp_path), "flip", random.Random(0))[0] == Path("artifacts/train/weights")
    damage.spoil(Project.at(tmp_path), "delete", random.Random(0))
    assert not file.exists()


def test_the_page_counts_outcomes_and_shows_how_to_repeat_a_trial(tmp_path: Path):
    outcomes = (RECOVERED, FAILED, MISSED)
    results = [
        Result(draw(seed), outcome, ["killed dvc"], ["it hung"] if outcome == FAILED else [], 30.0, tmp_path)
        for seed, outcome in enumerate(outcomes)
    ]
    page = report.page(results, 2.0)
    assert "# Faults: 1 of 3" in page
    assert "| all | 3 | 1 | 0 | 1 | 1 | 0 | |" in page
    assert "it hung" in page
    assert "make faults N=1 SEED=1" in report.reasons(results[1])
