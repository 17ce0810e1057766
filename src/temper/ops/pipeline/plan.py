"""Which stages would run, and the reasons as text.

DVC decides which stages are stale. The reasons come from a comparison of what `dvc.lock` recorded with the
current files. The two steps after the last stage are not DVC stages, since they involve more than files:
`measure` (latency depends on the machine) and `register` (it changes the registry).
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from temper.artifacts import DEPLOYED
from temper.config import FILE as PARAMS_FILE
from temper.config import Params
from temper.make_command import ROOT
from temper.ops import candidates, dvc
from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from temper.stages import STAGES, Stage, source_files

MEASURE, REGISTER = "measure", "register"
NEVER = "never ran"
"""Reason to run a stage that dvc.lock does not contain."""


@dataclass(frozen=True)
class Step:
    """One step of the pipeline, and whether it would run."""

    name: str
    reasons: tuple[str, ...]
    """Why the step would run; empty if it would not."""

    @property
    def runs(self) -> bool:
        """Whether the step would run."""
        return bool(self.reasons)


def make(project: Project, params: Params, force: tuple[str, ...] = ()) -> tuple[Step, ...]:
    """Return the plan of a run: all steps, in order.

    Stages in `force` run whether or not anything changed.

    A stage that depends on a stage that will run is planned to run too. If the earlier stage makes the same
    result as before, DVC will find the later one up to date after all.
    """
    source_files.update(project.folder, params.ingest)
    changes, locked, current = dvc.status(project), dvc.recorded(project), dvc.current_params(project)
    steps: list[Step] = []
    for stage in STAGES:
        running = {step.name for step in steps if step.runs}
        reasons = explain(stage, changes.get(stage.name, []), locked.get(stage.name), current, project)
        reasons = ["forced by FORCE", *reasons] if stage.name in force else reasons
        upstream = [name for name in stage.inputs if name in running]
        # If an input will be made again, its current state does not matter.
        reasons = [
            reason
            for reason in reasons
            if not reason.startswith(tuple(f"artifacts/{name} " for name in upstream))
        ]
        if upstream and NEVER not in reasons:
            reasons.append(f"depends on {' and '.join(upstream)}, which will run")
        steps.append(Step(stage.name, tuple(reasons)))
    measure = ("evaluate will run",) if steps[-1].runs else unmeasured(project)
    register = ("evaluate will run",) if steps[-1].runs else unregistered(project, params)
    return (*steps, Step(MEASURE, measure), Step(REGISTER, register))


def explain(
    stage: Stage, changes: list[Any], entry: dict[str, Any] | None, current: dict[str, Any], project: Project
) -> list[str]:
    """Return why DVC finds a stage stale, as text.

    Args:
        stage: Row of the stage in the table of stages.
        changes: List of the stage's changes in the output of `dvc status --json`.
        entry: Entry of the stage in dvc.lock, or None.
        current: Current content of params.yaml.
        project: Project to whose folder paths are relative.
    """
    if not changes:
        return []
    if entry is None:
        return [NEVER]
    reasons: list[str] = []
    for change in changes:
        if not isinstance(change, dict):
            reasons.append(
                f"the {change.removeprefix('changed ')} changed" if change != "always changed" else change
            )
            continue
        for path, how in change.get("changed deps", {}).items():
            if path == PARAMS_FILE:
                reasons += _explain_params(how, dvc.recorded_params(entry), current)
            else:
                reasons.append(_explain_path(path, how, project))
        for path, how in change.get("changed outs", {}).items():
            reasons.append(
                f"{path} {'missing' if how == 'deleted' else f'is not the output of {stage.name} ({how})'}"
            )
    return reasons


def differences(old: Any, new: Any, where: str) -> list[str]:
    """Return the leaves in which two values of params.yaml differ, as `params name old → new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        return [
            line for name in names for line in differences(old.get(name), new.get(name), f"{where}.{name}")
        ]
    return [] if old == new else [f"params {where} {_format_value(old)} → {_format_value(new)}"]


def format_plan(steps: tuple[Step, ...], seconds: Mapping[str, float] | None = None) -> str:
    """Format the plan as a table for the terminal.

    Args:
        steps: The plan.
        seconds: Seconds that each step took when it last ran, by name. If none is known, the table has no
            column for them.
    """
    width = max(len(step.name) for step in steps)
    last = {name: f"last {value:.0f} s" for name, value in (seconds or {}).items()}
    room = max((len(last.get(step.name, "")) for step in steps), default=0)
    return "\n".join(
        f"{step.name:<{width}}  {'run ' if step.runs else 'skip'}  "
        f"{f'{last.get(step.name, str()):>{room}}  ' if room else ''}{_shorten(step.reasons)}".rstrip()
        for step in steps
    )


def _shorten(reasons: tuple[str, ...], most: int = 6) -> str:
    if not reasons:
        return "up to date"
    rest = f"; and {len(reasons) - most} more" if len(reasons) > most else ""
    return "; ".join(reasons[:most]) + rest


def _explain_params(how: Any, old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    if not isinstance(how, dict):
        return [f"{PARAMS_FILE} is {how}"]
    found = [line for section in how for line in differences(old.get(section), new.get(section), section)]
    return found or [f"params {', '.join(how)} changed"]


def _explain_path(path: str, how: str, project: Project) -> str:
    absolute = os.path.normpath(project.folder / path)
    verb = {"modified": "changed", "deleted": "missing"}.get(how, f"is {how}")
    if absolute.startswith(f"{ROOT / 'src'}{os.sep}"):
        return f"code {os.path.relpath(absolute, ROOT)} {verb}"
    if path == source_files.FILE:
        return f"data that ingest reads {verb}"
    if path.startswith("artifacts/"):
        return f"{path} {verb}"
    return f"data {path} {verb}"


def _format_value(value: Any) -> str:
    return (
        "(not set)"
        if value is None
        else json.dumps(value, ensure_ascii=False)
        if isinstance(value, list | dict)
        else str(value)
    )


def unmeasured(project: Project) -> tuple[str, ...]:
    """Return why the candidates must be timed; empty if the current candidates were timed."""
    path = project.reports / "latency.json"
    if not path.is_file():
        return (f"{path.relative_to(project.folder)} missing",)
    try:
        timed = {
            name: entry["digest"]
            for name, entry in json.loads(path.read_text(encoding="utf-8"))["candidates"].items()
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return (f"{path.relative_to(project.folder)} is damaged",)
    if timed != {name: entry["digest"] for name, entry in candidates.read(project).items()}:
        return ("the candidates changed since they were timed",)
    if not (project.reports / "card.html").is_file():
        return ("reports/card.html missing",)
    return ()


def unregistered(project: Project, params: Params) -> tuple[str, ...]:
    """Return why the model must be registered; empty if it is registered."""
    digest = candidates.read(project)[DEPLOYED]["digest"]
    version = model_versions.find(project, params.project, digest)
    if version is None:
        return (f"model {digest[:12]} is not registered",)
    if not version.finished:
        return (f"version {version.version} of {version.name} is unfinished",)
    if not (version.whole and version.loadable):
        return (f"a file of version {version.version} of {version.name} is missing or damaged",)
    return ()
