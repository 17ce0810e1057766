"""What the trainings of a run will take, told before it begins; an estimate that fails never ends a run.

The timing is done by a process of its own (`python -m temper estimate`): nothing here imports torch, and what it needs of memory is gone
before training begins.
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
"""Every line begins so: nothing of what it says is shown."""


def report_lines(project: Project, params: Params, steps: tuple[plan.Step, ...]) -> list[str]:
    """A line for each long stage that will run, and a warning where it is very long.

    Nothing is timed where no training will run, or where all of them take less than a minute.
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
        why = artifacts.explain(error) if isinstance(error, OSError) else str(error)
        return [f"what training will take could not be estimated: {why}"]
    lines = []
    for name, step in running.items():
        lines.append(f"{name}: {'at most ' if _may_be_less(project, step) else ''}{found[name]}")
        if name in trainings and found[name].seconds > 60 * params.plan.warn_minutes:
            lines.append(
                f"warning: {advise(name, params, found[name], warn_minutes=params.plan.warn_minutes)}"
            )
    return [*lines, *_sum([found[name] for name in running])]


def _time(project: Project, stages: list[str]) -> None:
    """Have stages timed.

    Raises:
        ValueError: If that failed; says why.
    """
    command = [sys.executable, "-m", "temper", "estimate", *stages]
    print("estimating what training will take: a few steps are timed", file=sys.stderr, flush=True)
    ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment(), hide=_ALL)
    if ended.code:
        raise ValueError(failure_messages.read("estimate", ended)[0])


def _may_be_less(project: Project, step: plan.Step) -> bool:
    """Whether a stage may go on from a checkpoint, or come back from DVC's cache: it was begun, or ran, before."""
    marks = (project.hidden / "checkpoints").glob(f"*/{artifacts.STAGE_OF_CHECKPOINTS}")
    begun = any(mark.read_text(encoding="utf-8") == step.name for mark in marks)
    return begun or step.reasons[0] != plan.NEVER


def _sum(estimates: list[Estimate]) -> list[str]:
    if len(estimates) < 2:
        return []
    return [
        f"together {say_seconds(sum(each.seconds for each in estimates))}; the other stages are short beside them"
    ]
