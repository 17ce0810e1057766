"""Runs a flow under Prefect and records it in MLflow.

This includes the server, the record, cancellation, and closing the records of killed runs. The flow's
function is an argument. Prefect and MLflow are imported only when a flow starts.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from temper.config import Params
from temper.ops.pipeline import plan
from temper.ops.prefect import server
from temper.ops.project import Project
from temper.ops.system import signals
from temper.ops.system.process_identity import Owner

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State

    from temper.ops.pipeline.run import Run

PIPELINE, RETRAIN = FLOWS = ("pipeline", "retrain")
"""Names of the flows that lock a project. The holder of the lock closes the records of holders that died."""
_NO_ANSWER = "Failed to reach API"
"""Beginning of the RuntimeError that Prefect raises if its server does not answer the first request."""


@contextmanager
def explain_failures(project: Project) -> Iterator[None]:
    """Turn exceptions of MLflow and Prefect into a paragraph. Failures of stages do not pass through here.

    Raises:
        ValueError: If the body raises an exception of MLflow, its database, or Prefect.
    """
    from httpx import HTTPError
    from mlflow.exceptions import MlflowException
    from prefect.exceptions import PrefectException
    from sqlalchemy.exc import SQLAlchemyError

    again = "run the same command again; finished stages are kept"
    try:
        yield
    except (MlflowException, SQLAlchemyError) as error:  # the second while MLflow creates its tables
        reason = project.redact(str(error).splitlines()[0])
        first = "free some disk space, then " if reason.endswith("is full") else ""
        raise ValueError(
            f"MLflow could not read or write {project.store} ({reason}); {first}{again}"
        ) from error
    except (HTTPError, PrefectException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(_NO_ANSWER):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        log = project.hidden / "prefect-server.log"
        raise ValueError(f"Prefect's server failed ({reason}); see {log}; {again}") from error


def run_flow(
    name: str,
    project: Project,
    params: Params,
    steps: tuple[plan.Step, ...],
    body: "Callable[[Run], str]",
    *,
    force: tuple[str, ...] = (),
) -> "tuple[State[Any], Run]":
    """Run a flow to its end.

    Args:
        name: Name of the flow.
        project: Project to run in; the caller holds its lock.
        params: Parameters of the project.
        steps: Steps of the plan.
        body: Function of the flow; returns the message of the final state, or raises `StepFailed`.
        force: Stages that run even if nothing changed.

    Returns:
        Prefect's final state, and the run after the last task.
    """
    title = time.strftime("%Y-%m-%d %H:%M:%S")
    with server.serve(project) as prefect_server, explain_failures(project):
        from prefect import flow, runtime
        from prefect.context import SyncClientContext
        from prefect.states import Completed, Failed

        from temper.ops.mlflow.run_logger import Record
        from temper.ops.pipeline.run import Run, StepFailed
        from temper.ops.prefect import run_records

        record = Record(project, params, title, note=f"Planned:\n```\n{plan.format_plan(steps)}\n```")
        prefect_server.wait()
        if dead := run_records.close_dead(project.folder, FLOWS) + record.reaped:
            print(f"closed {dead} records of runs that were killed")
        run = Run(project, params, {step.name: step for step in steps}, record, force)
        cancellations: list[signals.Cancellation] = []

        @flow(name=name, flow_run_name=title, persist_result=False, validate_parameters=False)
        def recorded(project: str, process: str) -> Any:
            signals.listen()  # Prefect has replaced our signal handlers
            cancellations.append(signals.Cancellation(prefect_server.url, runtime.flow_run.id))
            with cancellations[0].watch():
                try:
                    return Completed(message=body(run))
                except StepFailed as error:
                    return Failed(message=str(error))

        try:
            # A client that has received one answer waits for a server that is being restarted.
            with SyncClientContext.get_or_create():
                state = cast("State[Any]", recorded(str(project.folder), str(Owner.me()), return_state=True))
        except BaseException:
            cancelled = [each for each in cancellations if each.asked]
            record.end("KILLED", "cancelled in Prefect" if cancelled else "interrupted")
            for each in cancelled:
                each.confirm()
            raise
        record.end("FINISHED" if state.is_completed() else "FAILED", run.failure or "")
        if prefect_server.died:
            server.flush()
            run_records.reconcile(FLOWS)
    return state, run


def close_records(project: Project, params: Params) -> int:
    """Close the records of runs that were killed; returns the number of such runs."""
    with server.serve(project) as prefect_server, explain_failures(project):
        from temper.ops.mlflow.run_logger import Record
        from temper.ops.prefect import run_records

        record = Record(project, params, "")
        prefect_server.wait()
        return run_records.close_dead(project.folder, FLOWS) + record.reaped
