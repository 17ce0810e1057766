"""Which stages would run, and why, in words.

DVC decides; the words come from holding what `dvc.lock` recorded against what lies there now. Two steps behind the last
stage are not DVC's, since they touch the world: `measure` (latency depends on the machine) and `register`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from temper.config import FILE as PARAMS_FILE
from temper.config import Params
from temper.ops import candidates, dvc
from temper.ops.mlflow import model_versions
from temper.ops.project import ROOT, Project
from temper.stages import BY_NAME, STAGES, Stage

MEASURE, REGISTER = "measure", "register"
NEVER = "never ran"
"""Why a stage without a record runs."""


@dataclass(frozen=True)
class Step:
    """What would happen to one step of the chain."""

    name: str
    reasons: tuple[str, ...]
    """Why it would run; empty if it would not."""

    @property
    def runs(self) -> bool:
        """Whether it would run."""
        return bool(self.reasons)


def needs(step: str) -> tuple[str, ...]:
    """The steps whose results a step reads."""
    behind = {MEASURE: ("evaluate",), REGISTER: (MEASURE,)}
    return behind[step] if step in behind else BY_NAME[step].inputs


def make(project: Project, params: Params, force: tuple[str, ...] = ()) -> tuple[Step, ...]:
    """The plan of a run, in order.

    Stages in `force` run whether or not anything changed.

    A stage behind one that will run is planned to run too; if the earlier one leaves the same result as before, DVC will
    find the later one up to date after all.
    """
    changes, locked, current = dvc.status(project), dvc.recorded(project), dvc.current_params(project)
    steps: list[Step] = []
    for stage in STAGES:
        running = {step.name for step in steps if step.runs}
        reasons = explain(stage, changes.get(stage.name, []), locked.get(stage.name), current, project)
        reasons = ["FORCE asks for it", *reasons] if stage.name in force else reasons
        upstream = [name for name in stage.inputs if name in running]
        # That an input will be made anew says it all; how it lies there now says nothing more.
        reasons = [
            reason
            for reason in reasons
            if not reason.startswith(tuple(f"artifacts/{name} " for name in upstream))
        ]
        if upstream and NEVER not in reasons:
            reasons.append(f"made from {' and '.join(upstream)}, which will run")
        steps.append(Step(stage.name, tuple(reasons)))
    measure = ("evaluate will run",) if steps[-1].runs else unmeasured(project)
    register = ("evaluate will run",) if steps[-1].runs else unregistered(project, params)
    return (*steps, Step(MEASURE, measure), Step(REGISTER, register))


def explain(
    stage: Stage, changes: list[Any], entry: dict[str, Any] | None, current: dict[str, Any], project: Project
) -> list[str]:
    """Why DVC finds a stage stale, in words.

    Args:
        stage: Its row in the table.
        changes: Its list in the answer of `dvc status --json`.
        entry: Its entry in dvc.lock, or None.
        current: params.yaml as it is written now.
        project: Where paths are relative to.
    """
    if not changes:
        return []
    if entry is None:
        return [NEVER]
    words: list[str] = []
    for change in changes:
        if not isinstance(change, dict):
            words.append(
                f"the {change.removeprefix('changed ')} changed" if change != "always changed" else change
            )
            continue
        for path, how in change.get("changed deps", {}).items():
            if path == PARAMS_FILE:
                words += _explain_params(how, dvc.recorded_params(entry), current)
            else:
                words.append(_explain_path(path, how, project))
        for path, how in change.get("changed outs", {}).items():
            words.append(
                f"{path} {'missing' if how == 'deleted' else f'is not what {stage.name} left ({how})'}"
            )
    return words


def differences(old: Any, new: Any, where: str) -> list[str]:
    """The leaves in which two values of params.yaml differ, as `name old → new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        return [
            line for name in names for line in differences(old.get(name), new.get(name), f"{where}.{name}")
        ]
    return [] if old == new else [f"params {where} {_say(old)} → {_say(new)}"]


def format_plan(steps: tuple[Step, ...], seconds: Mapping[str, float] | None = None) -> str:
    """The plan as a table for people.

    Args:
        steps: The plan.
        seconds: What steps took when they last ran, by name; where nothing is known, there is no such column.
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
    if path.startswith("artifacts/"):
        return f"{path} {verb}"
    return f"data {path} {verb}"


def _say(value: Any) -> str:
    return (
        "(not set)"
        if value is None
        else json.dumps(value, ensure_ascii=False)
        if isinstance(value, list | dict)
        else str(value)
    )


def unmeasured(project: Project) -> tuple[str, ...]:
    """Why the candidates must be timed; empty if the ones that lie there were timed."""
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
        return ("the candidates are not the ones that were timed",)
    if not (project.reports / "card.html").is_file():
        return ("reports/card.html missing",)
    return ()


def unregistered(project: Project, params: Params) -> tuple[str, ...]:
    """Why the model must be registered; empty if it is."""
    digest = candidates.read(project)[candidates.CANDIDATE]["digest"]
    version = model_versions.find(project, params.project, digest)
    if version is None:
        return (f"model {digest[:12]} is not registered",)
    if not version.finished:
        return (f"version {version.version} of {version.name} is unfinished",)
    if not (version.whole and version.loadable):
        return (f"a file of version {version.version} of {version.name} is missing or damaged",)
    return ()
