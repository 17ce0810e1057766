"""A flow under Prefect, recorded in MLflow: the server, the record, cancellation, and what is left of runs that were killed.

What the flow does is handed in. Prefect and MLflow are imported only when one is begun.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tasks import interrupt, plan, server
from tasks.owner import Owner
from tasks.project import Project
from temper.params import Params

if TYPE_CHECKING:
    from tasks.stages import Run

PIPELINE, RETRAIN = FLOWS = ("pipeline", "retrain")
"""The flows that hold a project: whoever holds it closes the records of those that died with it."""
_NO_ANSWER = "Failed to reach API"
"""How the RuntimeError begins that Prefect raises when its server does not answer a client's first question."""


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
        raise ValueError(f"MLflow could not read or write {project.store} ({words}); {first}{kept}") from error
    except (HTTPError, PrefectException, RuntimeError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith(_NO_ANSWER):
            raise
        words = str(error).splitlines()[0] if str(error) else type(error).__name__
        log = project.hidden / "prefect-server.log"
        raise ValueError(f"Prefect's server failed ({words}); {log} may say why; {kept}") from error


def conduct(
    name: str,
    project: Project,
    params: Params,
    steps: tuple[plan.Step, ...],
    body: "Callable[[Run], Any]",
    *,
    force: tuple[str, ...] = (),
) -> "tuple[Any, Run]":
    """Run a flow to its end.

    Args:
        name: Of the flow.
        project: Whose it is; held by the caller.
        params: Of the project.
        steps: What is planned.
        body: The flow: returns its last state.
        force: Stages that run whether or not anything changed.

    Returns:
        Prefect's last state, and the run as the tasks left it.
    """
    title = time.strftime("%Y-%m-%d %H:%M:%S")
    with server.serve(project) as prefect_server, explained(project):
        from prefect import flow, runtime
        from prefect.context import SyncClientContext

        from tasks import stages, tracking

        record = tracking.Record(project, params, title, note=f"Planned:\n```\n{plan.words(steps)}\n```")
        prefect_server.wait()
        if dead := stages.reap(FLOWS) + record.reaped:
            print(f"closed {dead} records of runs that were killed")
        run = stages.Run(project, params, {step.name: step for step in steps}, record, force)
        cancellations: list[interrupt.Cancellation] = []

        @flow(name=name, flow_run_name=title, persist_result=False, validate_parameters=False)
        def conducted(project: str, process: str) -> Any:
            interrupt.listen()  # Prefect has put its own handler in the place of ours
            cancellations.append(interrupt.Cancellation(prefect_server.url, runtime.flow_run.id))
            with cancellations[0].watch():
                return body(run)

        try:
            with SyncClientContext.get_or_create():  # a client that was answered once waits for a server that dies
                state = conducted(str(project.folder), str(Owner.me()), return_state=True)
        except BaseException:
            cancelled = [each for each in cancellations if each.asked]
            record.end("KILLED", "cancelled in Prefect" if cancelled else "interrupted")
            for each in cancelled:
                each.confirm()
            raise
        record.end("FINISHED" if state.is_completed() else "FAILED", run.failure or "")
        if prefect_server.died:
            server.flush()
            stages.settle(FLOWS)
    return state, run
