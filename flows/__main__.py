"""The commands that run flows: `python -m flows pipeline | retrain | schedule`; `make` calls them.

Flows are imported late, since Prefect and MLflow take seconds to import and an unchanged project needs
neither. They are imported only while Prefect's server runs, since Prefect reads its address then.
"""

import argparse
import logging
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from temper.artifacts import DEPLOYED
from temper.config import HOST, Params, check_hosts, check_ranks, load
from temper.ops import candidates
from temper.ops.mlflow import backup, model_versions
from temper.ops.mlflow.model_versions import Registered
from temper.ops.pipeline import cleanup, exit_status, plan, preflight, summary, training_time
from temper.ops.pipeline.exit_status import OK, SKIPPED, STOPPED
from temper.ops.prefect import flow_runner
from temper.ops.prefect.flow_runner import FLOWS, PIPELINE, RETRAIN
from temper.ops.project import Project
from temper.ops.retraining import inbox, last_training, triggers, webhook
from temper.ops.system import project_lock, signals
from temper.parent_death import end_with_parent
from temper.stages import BY_NAME

if TYPE_CHECKING:
    from temper.ops.pipeline.run import Run


def run_pipeline(project: Project, params: Params, force: tuple[str, ...]) -> int:
    """Run the stale stages, then measure and register; returns the exit status."""
    steps = plan.make(project, params, force)
    print(plan.format_plan(steps, summary.known_seconds(project)), flush=True)
    for step in steps:
        if step.runs and step.name in BY_NAME and BY_NAME[step.name].ranked:
            check_ranks(params, step.name)
            check_hosts(params, step.name, os.environ.get(HOST))
    if not any(step.runs for step in steps):
        return show_unchanged(project, params)
    for line in training_time.report_lines(project, params, steps):
        print(line, flush=True)

    def body(run: "Run") -> str:
        from flows.pipeline import pipeline

        return pipeline(run)

    state, run = flow_runner.run_flow(PIPELINE, project, params, steps, body, force=force)
    if not state.is_completed() or run.registered is None:
        return STOPPED
    record_result(project, params, run.registered)
    return OK


def run_retrain(project: Project, params: Params, *, force: bool) -> int:
    """Import new images, decide, train, ask the gate, notify; returns the exit status."""
    print(inbox.import_new(project, params).words(), flush=True)
    steps = plan.make(project, params)
    if not any(step.runs for step in steps):
        decision = triggers.check_reasons(project, params, steps, force=force)
        print(f"retrain: not training: {'every stage is up to date' if decision.train else decision.why}")
        return OK

    def body(run: "Run") -> str:
        from flows.retrain import retrain

        return retrain(run, force=force)

    state, run = flow_runner.run_flow(RETRAIN, project, params, steps, body)
    completed = state.is_completed()
    webhook.notify(
        project, params, state.message or "", trained=run.registered is not None, failed=not completed
    )
    if not completed:
        return STOPPED
    if run.registered is not None:
        record_result(project, params, run.registered)
    return OK


def run_schedule(project: Project) -> int:
    """Retrain on schedule until Ctrl-C; returns the exit status."""
    from flows.schedule import serve

    with suppress(KeyboardInterrupt):
        serve(project, load(project.folder))
    return OK


def record_result(project: Project, params: Params, registered: Registered) -> None:
    """Back up MLflow's database, record the images trained on, write the summary, and print it."""
    backup.save(project)
    last_training.record(project)
    _summarize(project, params, registered)


def show_unchanged(project: Project, params: Params) -> int:
    """Print the current model and that there is nothing to do; returns the exit status."""
    registered = model_versions.find(project, params.project, candidates.read(project)[DEPLOYED]["digest"])
    if registered is None:
        raise AssertionError("the plan says that the model is registered, but it is not")
    _summarize(project, params, registered)
    if model_versions.unclosed(project, FLOWS) and (dead := flow_runner.close_records(project, params)):
        print(f"closed {dead} records of runs that were killed")
    print("nothing to do: every stage is up to date and the model is registered")
    return OK


def _summarize(project: Project, params: Params, registered: Registered) -> None:
    report = summary.make(project, params, registered)
    summary.write(project, report)
    summary.show(project, report, Console(highlight=False))


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(prog="python -m flows", description="Run a flow of a project.")
    flows = parser.add_subparsers(dest="flow", required=True)
    pipeline = flows.add_parser("pipeline", help="run the stale stages, then measure and register")
    pipeline.add_argument(
        "--force", nargs="*", default=[], metavar="STAGE", help="stages to run even if nothing changed"
    )
    retrain = flows.add_parser("retrain", help="import new examples and train again if there is a reason to")
    retrain.add_argument(
        "--scheduled",
        action="store_true",
        help="run as scheduled: thresholds apply, and a busy project is skipped",
    )
    schedule = flows.add_parser(
        "schedule", help="retrain on schedule (retrain.cron in params.yaml) until Ctrl-C"
    )
    for each in (pipeline, retrain, schedule):
        each.add_argument(
            "--project", type=Path, default=Path(), help="folder with params.yaml (default: current folder)"
        )
    for each in (pipeline, retrain):
        each.add_argument(
            "--busy",
            choices=("fail", "wait", "skip"),
            default="fail",
            help="if another run holds the project: fail (default), wait for it, or skip this run "
            f"(exit status {SKIPPED})",
        )
        each.add_argument(
            "--tied", action="store_true", help="end when the process that started this one ends"
        )
    options = parser.parse_args(arguments)
    if options.flow == PIPELINE and (unknown := [name for name in options.force if name not in BY_NAME]):
        parser.error(f"FORCE = {unknown[0]}: there is no such stage; choose from {', '.join(BY_NAME)}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Run a flow; returns the exit status."""
    options = parse(arguments)
    project = Project.at(options.project)
    os.environ.update(project.environment())
    if options.flow == "schedule":
        return exit_status.run(lambda: run_schedule(project))
    if options.tied:
        end_with_parent()
    signals.listen()
    # Otherwise logging would report a log line that it cannot write (full disk) in the middle of an error.
    logging.raiseExceptions = False
    skip = options.busy == "skip" or getattr(options, "scheduled", False)
    return exit_status.run(lambda: act(options, project), skip=skip)


def act(options: argparse.Namespace, project: Project) -> int:
    """Lock the project, check it, and run the flow; returns the exit status."""
    params = load(project.folder)  # before anything is written: a mistyped folder must not be created
    try:
        with project_lock.exclusive(project, wait=options.busy == "wait"):
            params, messages = preflight.preflight(project)
            for line in [*messages, *cleanup.end_orphans(project)]:
                print(line, flush=True)
            if options.flow == PIPELINE:
                return run_pipeline(project, params, tuple(options.force))
            return run_retrain(project, params, force=not options.scheduled)
    except project_lock.Busy:
        raise
    except (ValueError, OSError) as error:
        if options.flow == RETRAIN:
            webhook.notify(project, params, str(error), trained=False, failed=True)
        raise


if __name__ == "__main__":
    sys.exit(main())
