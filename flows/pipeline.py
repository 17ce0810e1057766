"""The whole chain, from a folder of pictures to a registered model: read it from the bottom up, or from `chain`.

    ingest → prepare → augment → train → distill → quantize → evaluate     stages: DVC decides whether they run
    → measure → register                                                   tasks: they touch the world

`make pipeline PROJECT=folder` runs `python -m flows.pipeline --project folder`; `make plan` adds `--plan`. Prefect says when a step
runs, DVC whether, `python -m temper STAGE` what it does, and MLflow keeps what came out. Prefect and MLflow are imported
late: an unchanged project needs neither.
"""

import argparse
import logging
import os
import sys
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tasks import catalogue, command, estimates, interrupt, news, plan, summary, upkeep
from tasks.command import OK, SKIPPED, STOPPED
from tasks.conduct import FLOWS, PIPELINE, conduct, explained
from tasks.project import Project
from temper.leash import end_with_parent
from temper.params import HOST, Params, check_hosts, check_ranks
from temper.stages import BY_NAME

if TYPE_CHECKING:
    from tasks.stages import Run


def chain(run: "Run") -> Any:
    """The flow: every step in order; the first one that fails ends it."""
    from prefect.states import Completed, Failed

    from tasks.stages import make_tasks

    done: dict[str, Any] = {}
    for name, step in make_tasks().items():
        done[name] = step(run, wait_for=[done[needed] for needed in plan.needs(name)], return_state=True)
        if not done[name].is_completed():
            return Failed(message=f"{name}: {run.failure or done[name].message}")
    return Completed(message=done[name].message)


def close_records(project: Project, params: Params) -> int:
    """Close the records of runs that were killed; returns how many there were."""
    from tasks import server

    with server.serve(project) as prefect_server, explained(project):
        from tasks import stages, tracking

        record = tracking.Record(project, params, "")
        prefect_server.wait()
        return stages.reap(FLOWS) + record.reaped


def run_chain(project: Project, params: Params, steps: tuple[plan.Step, ...], force: tuple[str, ...]) -> int:
    """Run the chain under Prefect and record it in MLflow; returns the exit status."""
    state, run = conduct(PIPELINE, project, params, steps, chain, force=force)
    if not state.is_completed() or run.registered is None:
        return STOPPED
    show_result(project, params, run.registered)
    return OK


def show_result(project: Project, params: Params, registered: catalogue.Registered) -> None:
    """Keep what was registered, write the summary and print it."""
    upkeep.keep_database(project)
    news.note_training(project)
    report = summary.make(project, params, registered)
    summary.write(project, report)
    summary.show(project, report, Console(highlight=False))


def show_unchanged(project: Project, params: Params) -> int:
    """Say that there is nothing to do, and what stands; returns the exit status."""
    registered = catalogue.find(project, params.project, plan.candidates(project)[plan.CANDIDATE]["digest"])
    if registered is None:
        raise AssertionError("the plan said that the model is registered")
    report = summary.make(project, params, registered)
    summary.write(project, report)
    summary.show(project, report, Console(highlight=False))
    if catalogue.unclosed(project, FLOWS) and (dead := close_records(project, params)):
        print(f"closed {dead} records of runs that were killed")
    print("nothing to do: every stage is up to date and the model is registered")
    return OK


def say(lines: list[str]) -> int:
    """Print lines; returns the exit status of a command that did no more."""
    for line in lines:
        print(line, flush=True)
    return OK


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m flows.pipeline", description="Run the whole chain of a project.")
    parser.add_argument("--project", type=Path, default=Path(), help="folder with params.yaml (default: here)")
    parser.add_argument("--plan", action="store_true", help="only say which stages would run, and why")
    parser.add_argument("--force", nargs="*", default=[], metavar="STAGE", help="stages to run though nothing changed")
    parser.add_argument(
        "--busy",
        choices=("fail", "wait", "skip"),
        default="fail",
        help=f"if another run holds the project: fail (default), wait for it, or skip this run (exit status {SKIPPED})",
    )
    parser.add_argument("--tied", action="store_true", help="end when the process that started this one ends")
    parser.add_argument("--restore", action="store_true", help="put back the last good copy of MLflow's database")
    options = parser.parse_args(arguments)
    if unknown := [name for name in options.force if name not in BY_NAME]:
        parser.error(f"no stage is called {unknown[0]!r}; FORCE takes {', '.join(BY_NAME)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Check, plan, and run what is stale; returns the exit status: 0 only if a model is registered."""
    options = parse(arguments)
    if options.tied:
        end_with_parent()
    project = Project.at(options.project)
    interrupt.listen()
    os.environ.update(project.environment())
    logging.raiseExceptions = False  # a log line that cannot be kept (full disk) would be told in the midst of an error
    return command.end(lambda: act(options, project), skip=options.busy == "skip")


def act(options: argparse.Namespace, project: Project) -> int:
    """Do what was asked; returns the exit status."""
    upkeep.load_params(project.folder)  # before anything is written: a mistyped folder must not come into being
    # A plan touches nothing, so it may be asked for beside a run.
    with nullcontext() if options.plan else upkeep.alone(project, wait=options.busy == "wait"):
        if options.restore:
            print(upkeep.restore_database(project))
            return OK
        params, said = upkeep.preflight(project, look=options.plan)
        if not options.plan:
            said += upkeep.end_orphans(project)
        steps = plan.make(project, params, tuple(options.force))
        print("\n".join([*said, plan.words(steps, summary.known_seconds(project))]), flush=True)
        if options.plan:
            return say(estimates.tell(project, params, steps))
        for step in steps:
            if step.runs and step.name in BY_NAME and BY_NAME[step.name].ranked:
                check_ranks(params, step.name)
                check_hosts(params, step.name, os.environ.get(HOST))
        if not any(step.runs for step in steps):
            return show_unchanged(project, params)
        say(estimates.tell(project, params, steps))
        return run_chain(project, params, steps, tuple(options.force))


if __name__ == "__main__":
    sys.exit(main())
