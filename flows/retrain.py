"""Train again if there is reason to: `make retrain` now, `make schedule` by the clock (`schedule.py`).

    inbox → ingest → prepare → is there reason? → the rest of the chain → gate → notice

Unchanged data, code and parameters never train again. Whatever is decided is said in one line, in Prefect and, where something ran, in MLflow.
"""

import argparse
import logging
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flows.pipeline import say, show_result
from tasks import command, estimates, inbox, interrupt, news, notice, plan, upkeep, watch
from tasks.command import OK, STOPPED
from tasks.conduct import RETRAIN, conduct
from tasks.project import Project
from temper.leash import end_with_parent
from temper.params import Params

if TYPE_CHECKING:
    from tasks.stages import Run

_FIRST = ("ingest", "prepare")
"""Stages that run before it is decided: they only look at the data."""


def chain(run: "Run", *, force: bool) -> Any:
    """The flow: its last state, and the same as an artifact, so that Prefect's pages show what came of every run under one name."""
    from prefect.artifacts import create_markdown_artifact

    state = work(run, force=force)
    version = run.registered
    words = [f"**{run.params.project}**: {state.message}"]
    if version is not None:
        words.append(
            f"Version {version.version} ({', '.join(version.aliases) or 'no alias'}), SHA-256 {version.digest}"
        )
    create_markdown_artifact("\n\n".join(words), key=RETRAIN, description=f"What came of {run.record.name}")
    return state


def work(run: "Run", *, force: bool) -> Any:
    """Every step there is reason for."""
    from prefect.states import Completed, Failed

    from tasks.stages import make_tasks

    tasks, done = make_tasks(), {}

    def step(name: str) -> bool:
        done[name] = tasks[name](
            run, wait_for=[done[needed] for needed in plan.needs(name) if needed in done], return_state=True
        )
        return bool(done[name].is_completed())

    for name in _FIRST:
        if not step(name):
            return Failed(message=f"{name}: {run.failure or done[name].message}")
    steps = plan.make(run.project, run.params)
    run.plan = {each.name: each for each in steps}
    decision = judge(run.project, run.params, steps, force=force)
    run.why = decision.why
    print(f"retrain: {'training' if decision.train else 'not training'}: {decision.why}", flush=True)
    run.record.add_note(f"Retrain: {decision.why}.")
    if not decision.train:
        return Completed(message=f"not trained: {decision.why}")
    say(estimates.tell(run.project, run.params, steps))
    for name in tasks:
        if name not in _FIRST and not step(name):
            return Failed(message=f"{name}: {run.failure or done[name].message}")
    return Completed(message=f"{decision.why}; {done[plan.REGISTER].message}")


def judge(project: Project, params: Params, steps: tuple[plan.Step, ...], *, force: bool) -> news.Decision:
    """Whether there is reason to train, with a look at drift."""
    drift = watch.look(project, params)
    print(watch.words(drift), flush=True)
    found = replace(news.look(project, params, steps), alarms=() if isinstance(drift, str) else tuple(drift["alarms"]))
    return news.decide(found, params.retrain, force=force)


def retrain(project: Project, params: Params, *, force: bool) -> int:
    """Take in what is new, decide, train, ask the gate, tell; returns the exit status."""
    print(inbox.take_in(project, params).words(), flush=True)
    steps = plan.make(project, params)
    if not any(step.runs for step in steps):
        decision = judge(project, params, steps, force=force)
        print(f"retrain: not training: {'every stage is up to date' if decision.train else decision.why}")
        return OK
    state, run = conduct(RETRAIN, project, params, steps, lambda run: chain(run, force=force))
    notice.give(
        project, params, state.message or "", trained=run.registered is not None, failed=not state.is_completed()
    )
    if not state.is_completed():
        return STOPPED
    if run.registered is not None:
        show_result(project, params, run.registered)
    return OK


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m flows.retrain", description="Train a project again if there is reason to."
    )
    parser.add_argument("--project", type=Path, default=Path(), help="folder with params.yaml (default: here)")
    parser.add_argument(
        "--scheduled", action="store_true", help="by the clock: thresholds count, and a busy project is skipped"
    )
    parser.add_argument(
        "--busy",
        choices=("fail", "wait", "skip"),
        default="fail",
        help="if another run holds the project (default: fail)",
    )
    parser.add_argument("--tied", action="store_true", help="end when the process that started this one ends")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Train again if there is reason to; returns the exit status."""
    options = parse(arguments)
    if options.tied:
        end_with_parent()
    project = Project.at(options.project)
    interrupt.listen()
    os.environ.update(project.environment())
    logging.raiseExceptions = False
    return command.end(lambda: act(options, project), skip=options.scheduled or options.busy == "skip")


def act(options: argparse.Namespace, project: Project) -> int:
    """Look for reasons, and train where there are some; returns the exit status."""
    upkeep.load_params(project.folder)
    with upkeep.alone(project, wait=options.busy == "wait"):
        params, said = upkeep.preflight(project)
        said += upkeep.end_orphans(project)
        print("\n".join(said), flush=True, end="\n" if said else "")
        return retrain(project, params, force=not options.scheduled)


if __name__ == "__main__":
    sys.exit(main())
