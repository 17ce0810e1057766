"""Turns a function of a run into a Prefect task."""

import functools
import traceback
from collections.abc import Callable
from typing import Any, Protocol

from mlflow.exceptions import MlflowException
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from temper import artifacts
from temper.ops.pipeline import preflight
from temper.ops.pipeline.run import Run, StepFailed

Result = State[Any]
"""Completed state that a step returns. Later steps that need it receive it, so Prefect draws the arrows."""


class Step(Protocol):
    """Signature of a step that a flow calls."""

    def __call__(self, run: Run, *needed: Result) -> Result:
        """Run the step after the steps that it needs.

        Raises:
            StepFailed: If the step failed.
        """
        ...


def step(body: Callable[[Run], str]) -> Step:
    """Make a Prefect task of a function that returns a message.

    Prefect's cache is off, since it does not check whether files exist. A failure becomes a failed state
    rather than a traceback: the stage has already printed what is wrong.
    """

    def guarded(run: Run) -> Result:
        try:
            return Completed(message=_checked(body, run))
        except StepFailed as error:
            return Failed(message=str(error))
        except Exception:
            traceback.print_exc()  # a bug of temper's; otherwise only Prefect would have the traceback
            raise

    name = body.__name__
    make_task = task(
        name=name, task_run_name=name, description=body.__doc__, cache_policy=NO_CACHE, persist_result=False
    )
    described = make_task(guarded)

    @functools.wraps(body)
    def call(run: Run, *needed: Result) -> Result:
        state: Result = described(run, wait_for=needed, return_state=True)
        if not state.is_completed():
            raise StepFailed(f"{name}: {run.failure or state.message}")
        return state

    return call


def _checked(body: Callable[[Run], str], run: Run) -> str:
    """Run a step's function; turns every error that a user can fix into a `StepFailed`."""
    try:
        if changed := preflight.changed_params(run.project, run.params):
            raise run.fail(changed)
        return body(run)
    except MlflowException as error:
        reason = run.project.redact(str(error).splitlines()[0])
        again = "run the same command again; finished stages are kept"
        raise run.fail(f"MLflow could not record {body.__name__} ({reason}); {again}") from error
    except ValueError as error:
        raise run.fail(str(error)) from error
    except OSError as error:
        raise run.fail(artifacts.explain(error)) from error
