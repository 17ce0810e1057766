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
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tasks import catalogue, interrupt, plan, summary, upkeep
from tasks.owner import Owner
from tasks.project import Project
from temper import artifacts
from temper.leash import end_with_parent
from temper.params import HOST, Params, check_hosts, check_ranks
from temper.stages import BY_NAME

if TYPE_CHECKING:
    from tasks.stages import Run

FLOW = "pipeline"
_NO_ANSWER = "Failed to reach API"
"""How the RuntimeError begins that Prefect raises when its server does not answer a client's first question."""
OK, STOPPED, USER_ERROR, SKIPPED, INTERRUPTED = 0, 1, 2, 75, 130


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


@contextmanager
def explained(project: Project) -> Iterator[None]:
    """Make a paragraph of what MLflow and Prefect raise; the stages' own failures never come this way."""
    from httpx import HTTPError
    from mlflow.exceptions import MlflowException
    from prefect.exceptions import PrefectException
    from sqlalchemy.exc import SQLAlchemyError

    kept = "what the stages made is kept; run the same command again"
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:  # the second where MLflow makes its tables
        words = str(error).splitlines()[0]
        first = "free some space, " if words.endswith("is full") else ""
        raise ValueError(f"MLflow could not read or write {project.database} ({words}); {first}{kept}") from error
    except (HTTPError, PrefectException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(_NO_ANSWER):
            raise
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        log = project.hidden / "prefect-server.log"
        raise ValueError(f"Prefect's server failed ({words}); {log} may say why; {kept}") from error


def close_records(project: Project, params: Params) -> int:
    """Close the records of runs that were killed; returns how many there were."""
    from tasks import server

    with server.serve(project) as prefect_server, explained(project):
        from tasks import stages, tracking

        record = tracking.Record(project, params, "")
        prefect_server.wait()
        return stages.reap(FLOW) + record.reaped


def run_chain(project: Project, params: Params, steps: tuple[plan.Step, ...], force: tuple[str, ...]) -> int:
    """Run the chain under Prefect and record it in MLflow; returns the exit status."""
    from tasks import server

    name = time.strftime("%Y-%m-%d %H:%M:%S")
    with server.serve(project) as prefect_server, explained(project):
        from prefect import flow, runtime
        from prefect.context import SyncClientContext

        from tasks import stages, tracking

        record = tracking.Record(project, params, name, note=f"Planned:\n```\n{plan.words(steps)}\n```")
        prefect_server.wait()
        if dead := stages.reap(FLOW) + record.reaped:
            print(f"closed {dead} records of runs that were killed")
        run = stages.Run(project, params, {step.name: step for step in steps}, record, force)
        cancellations: list[interrupt.Cancellation] = []

        @flow(name=FLOW, flow_run_name=name, persist_result=False, validate_parameters=False)
        def pipeline(project: str, process: str) -> Any:
            interrupt.listen()  # Prefect has put its own handler in the place of ours
            cancellations.append(interrupt.Cancellation(prefect_server.url, runtime.flow_run.id))
            with cancellations[0].watch():
                return chain(run)

        try:
            with SyncClientContext.get_or_create():  # a client that was answered once waits for a server that dies
                state = pipeline(str(project.folder), str(Owner.me()), return_state=True)
        except BaseException:
            cancelled = [each for each in cancellations if each.asked]
            record.end("KILLED", "cancelled in Prefect" if cancelled else "interrupted")
            for each in cancelled:
                each.confirm()
            raise
        record.end("FINISHED" if state.is_completed() else "FAILED", run.failure or "")
        if prefect_server.died:
            server.flush()
            stages.settle(FLOW)
    if not state.is_completed() or run.registered is None:
        return STOPPED
    upkeep.keep_database(project)
    report = summary.make(project, params, run.registered)
    summary.write(project, report)
    summary.show(project, report, Console(highlight=False))
    return OK


def show_unchanged(project: Project, params: Params) -> int:
    """Say that there is nothing to do, and what stands; returns the exit status."""
    registered = catalogue.find(project, params.project, plan.candidates(project)[plan.CANDIDATE]["digest"])
    if registered is None:
        raise AssertionError("the plan said that the model is registered")
    report = summary.make(project, params, registered)
    summary.write(project, report)
    summary.show(project, report, Console(highlight=False))
    if catalogue.unclosed(project, FLOW) and (dead := close_records(project, params)):
        print(f"closed {dead} records of runs that were killed")
    print("nothing to do: every stage is up to date and the model is registered")
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
    try:
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
            print("\n".join([*said, plan.words(steps)]), flush=True)
            if options.plan:
                return OK
            for step in steps:
                if step.runs and step.name in BY_NAME and BY_NAME[step.name].ranked:
                    check_ranks(params, step.name)
                    check_hosts(params, step.name, os.environ.get(HOST))
            if not any(step.runs for step in steps):
                return show_unchanged(project, params)
            return run_chain(project, params, steps, tuple(options.force))
    except upkeep.Busy as error:
        if options.busy == "skip":
            print(f"skipped: {error}")
            return SKIPPED
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return USER_ERROR
    except OSError as error:
        print(f"error: {artifacts.explain(error)}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        print("interrupted: run the same command again, it goes on where it was", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
