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
"""What a step returns: a completed state, handed to the steps that need it, so that Prefect draws the arrows."""


class Step(Protocol):
    """A step as a flow calls it."""

    def __call__(self, run: Run, *needed: Result) -> Result:
        """Run the step after those it needs.

        Raises:
            StepFailed: If it failed.
        """
        ...


def step(body: Callable[[Run], str]) -> Step:
    """Make a Prefect task of a function that returns a message.

    Prefect's cache is off, since it does not check whether files exist. A failure becomes a failed state rather than a traceback: the stage
    has already printed what is wrong.
    """

    def guarded(run: Run) -> Result:
        try:
            return Completed(message=_checked(body, run))
        except StepFailed as error:
            return Failed(message=str(error))
        except Exception:
            traceback.print_exc()  # a bug of temper's: Prefect alone would keep the traceback
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
    """Run a body; every error that a user can fix becomes a `StepFailed`."""
    try:
        if changed := preflight.changed_params(run.project, run.params):
            raise run.fail(changed)
        return body(run)
    except MlflowException as error:
        words = str(error).splitlines()[0]
        kept = "what the stages made is kept: run it again"
        raise run.fail(f"MLflow could not record {body.__name__} ({words}); {kept}") from error
    except ValueError as error:
        raise run.fail(str(error)) from error
    except OSError as error:
        raise run.fail(artifacts.explain(error)) from error
