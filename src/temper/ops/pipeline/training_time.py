"""Reports before a run how long its trainings will take. An estimate that fails never ends a run.

A separate process does the timing (`python -m temper estimate`). So this module does not import torch, and
the memory that the timing needs is free again before training starts.
"""

import sys

from temper import artifacts
from temper.commands.time_estimates import (
    TIMED,
    TRAININGS,
    Estimate,
    advise,
    is_little,
    read_estimates,
    say_seconds,
)
from temper.commands.workload import measure_workload
from temper.config import Params
from temper.ops.pipeline import plan
from temper.ops.project import Project
from temper.ops.system import failure_messages, subprocesses

_ALL = ("",)
"""Beginning of every line, so that no output of the estimate is shown."""


def report_lines(project: Project, params: Params, steps: tuple[plan.Step, ...]) -> list[str]:
    """Return a line for each long stage that will run, and a warning for each very long training.

    Nothing is timed if no training will run, or if all trainings take less than a minute.
    """
    running = {step.name: step for step in steps if step.runs and step.name in TIMED}
    try:
        trainings = [name for name in running if name in TRAININGS]
        if not trainings:
            return []
        size = measure_workload(project.folder, params)
        if all(is_little(name, params, size) for name in trainings):
            return []
        found = read_estimates(project.folder, params, size)
        if missing := [name for name in running if name not in found]:
            _time(project, missing)
            found = read_estimates(project.folder, params, size)
    except (ValueError, OSError) as error:
        reason = artifacts.explain(error) if isinstance(error, OSError) else str(error)
        return [f"the training time could not be estimated: {reason}"]
    lines = []
    for name, step in running.items():
        lines.append(f"{name}: {'at most ' if _may_be_less(project, step) else ''}{found[name]}")
        if name in trainings and found[name].seconds > 60 * params.plan.warn_minutes:
            lines.append(
                f"warning: {advise(name, params, found[name], warn_minutes=params.plan.warn_minutes)}"
            )
    return [*lines, *_format_total([found[name] for name in running])]


def _time(project: Project, stages: list[str]) -> None:
    """Time stages in a separate process.

    Raises:
        ValueError: If the timing failed; names the reason.
    """
    command = [sys.executable, "-m", "temper", "estimate", *stages]
    print("estimating the training time: timing a few steps", file=sys.stderr, flush=True)
    ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment(), hide=_ALL)
    if ended.code:
        raise ValueError(failure_messages.read("estimate", ended)[0])


def _may_be_less(project: Project, step: plan.Step) -> bool:
    """Return whether a stage may take less time than estimated.

    If it was started or ran before, it may continue from a checkpoint, or DVC may restore its result.
    """
    marks = (project.hidden / "checkpoints").glob(f"*/{artifacts.STAGE_OF_CHECKPOINTS}")
    started = any(mark.read_text(encoding="utf-8") == step.name for mark in marks)
    return started or step.reasons[0] != plan.NEVER


def _format_total(estimates: list[Estimate]) -> list[str]:
    if len(estimates) < 2:
        return []
    return [
        f"together {say_seconds(sum(each.seconds for each in estimates))}; "
        "the other stages take much less time"
    ]
