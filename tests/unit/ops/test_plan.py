"""The reasons to run a stage, from output of DVC in its real form."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from temper.config import load
from temper.make_command import ROOT
from temper.ops import dvc
from temper.ops.pipeline import plan
from temper.ops.project import Project
from temper.stages import BY_NAME
from tests.project import make_project

QUANTIZE = BY_NAME["quantize"]
LOCKED = {
    "params": {"params.yaml": {"seed": 0, "quantize": {"calibration_images": 512, "calibration": "minmax"}}}
}


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.at(tmp_path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([], []),
        (
            [{"changed deps": {"params.yaml": {"quantize": "modified"}}}],
            ["params quantize.calibration_images 512 → 1024", "params quantize.parity_images (not set) → 64"],
        ),
        ([{"changed outs": {"artifacts/quantize": "deleted"}}], ["artifacts/quantize missing"]),
        (
            [{"changed outs": {"artifacts/quantize": "modified"}}],
            ["artifacts/quantize is not the output of quantize (modified)"],
        ),
        ([{"changed deps": {"artifacts/train": "deleted"}}], ["artifacts/train missing"]),
        (
            [{"changed deps": {"images": "modified"}}, "changed command"],
            ["data images changed", "the command changed"],
        ),
    ],
)
def test_reasons(project: Project, changes: list[Any], words: list[str]):
    current = {
        "seed": 0,
        "quantize": {"calibration_images": 1024, "calibration": "minmax", "parity_images": 64},
    }
    assert plan.explain(QUANTIZE, changes, LOCKED, current, project) == words


def test_code_is_named_from_the_root_wherever_the_project_lies(project: Project):
    changes = [{"changed deps": {str(ROOT / "src/temper/gate.py"): "modified"}}]
    assert plan.explain(QUANTIZE, changes, LOCKED, {}, project) == ["code src/temper/gate.py changed"]


def test_a_stage_without_a_record_never_ran(project: Project):
    assert plan.explain(QUANTIZE, [{"changed deps": {}}], None, {}, project) == ["never ran"]


def test_differences_name_leaves_only():
    old, new = {"a": {"b": [1, 2], "c": 1}}, {"a": {"b": [1, 3], "c": 1}}
    assert plan.differences(old, new, "train") == ["params train.a.b [1, 2] → [1, 3]"]
    assert plan.differences({"a": "x"}, {}, "train") == ["params train.a x → (not set)"]


def test_what_is_behind_a_stale_stage_is_stale(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    stale = {
        "distill": [
            {"changed deps": {"params.yaml": {"seed": "modified"}}},
            {"changed outs": {"artifacts/distill": "deleted"}},
        ],
        "quantize": [{"changed deps": {"artifacts/distill": "deleted"}}],
    }
    locked = {name: {"params": {"params.yaml": {"seed": 0}}} for name in BY_NAME}
    folder = make_project(tmp_path / "made", "multiclass")
    monkeypatch.setattr(dvc, "status", lambda _: stale)
    monkeypatch.setattr(dvc, "recorded", lambda _: locked)
    monkeypatch.setattr(dvc, "current_params", lambda _: {"seed": 1})
    steps = {step.name: step.reasons for step in plan.make(project, load(folder))}
    assert [name for name, reasons in steps.items() if reasons] == [
        "distill",
        "quantize",
        "evaluate",
        "measure",
        "register",
    ]
    assert steps["distill"] == ("params seed 0 → 1", "artifacts/distill missing")
    assert steps["quantize"] == ("depends on distill, which will run",)
    assert steps["evaluate"] == ("depends on quantize, which will run",)


def test_the_table_says_run_or_skip():
    steps = (plan.Step("ingest", ()), plan.Step("prepare", ("never ran",)))
    assert plan.format_plan(steps) == "ingest   skip  up to date\nprepare  run   never ran"


def test_the_flow_hands_each_step_what_its_stage_reads(monkeypatch: pytest.MonkeyPatch):
    """`flows/pipeline.py` shows the same arrows as the table of stages."""
    from flows import pipeline

    seen: dict[str, tuple[str, ...]] = {}

    def fake(name: str) -> Callable[..., object]:
        def step(_: object, *needed: SimpleNamespace) -> SimpleNamespace:
            seen[name] = tuple(each.message for each in needed)
            return SimpleNamespace(message=name)

        return step

    for name in (*BY_NAME, plan.MEASURE, plan.REGISTER):
        monkeypatch.setattr(pipeline, name, fake(name))
    assert pipeline.pipeline(SimpleNamespace()) == plan.REGISTER  # type: ignore[arg-type]
    assert tuple(seen) == (*BY_NAME, plan.MEASURE, plan.REGISTER), "in this order"
    assert {name: seen[name] for name in BY_NAME} == {name: stage.inputs for name, stage in BY_NAME.items()}


def test_what_a_step_took_last_stands_in_a_column_where_anything_is_known():
    steps = (plan.Step("ingest", ()), plan.Step("train", ("never ran",)), plan.Step("measure", ("missing",)))
    assert plan.format_plan(steps, {}) == plan.format_plan(steps)
    assert plan.format_plan(steps, {"ingest": 2.4, "train": 133.0}).splitlines() == [
        "ingest   skip    last 2 s  up to date",
        "train    run   last 133 s  never ran",
        "measure  run               missing",
    ]
