"""One Prefect task per step, made from the table of stages. A task asks DVC for its stage and says what came of it.

Prefect's own caching is off: it does not look whether files exist. Failures are returned as states, not raised: the stage
has already said what is wrong, and a traceback of the machinery would bury it.
"""

import functools
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from mlflow.exceptions import MlflowException
from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, TaskRunFilter
from prefect.states import Completed, Crashed, Failed, State

from tasks import catalogue, failure, pictures, plan, registry, store, summary, terminal, upkeep
from tasks.catalogue import Registered
from tasks.owner import Owner
from tasks.plan import CANDIDATE, CANDIDATES, MEASURE, REGISTER, Step
from tasks.project import Project
from tasks.tracking import Record
from temper import artifacts
from temper.params import Params
from temper.stages import STAGES, Stage

_WORTH_A_RECORD = {*CANDIDATES.values(), "evaluate", MEASURE}
"""Steps after which the candidates' runs in MLflow say something new."""
SPLITS = "prepare"
"""The stage that splits."""
_ALIVE = ["RUNNING", "PENDING", "SCHEDULED", "CANCELLING"]
"""Prefect's types of states that are no end."""


@dataclass
class Run:
    """One run of the chain: what the tasks share."""

    project: Project
    params: Params
    plan: dict[str, Step]
    record: Record
    force: tuple[str, ...] = ()
    """Stages that run whether or not anything changed."""
    registered: Registered | None = None
    ran: set[str] = field(default_factory=set)
    """Steps that really ran."""
    why: str = ""
    """Why it trains, or does not, where that was decided."""
    failure: str | None = None
    """The first failure, as a paragraph."""

    def say(self, step: str, text: str) -> None:
        """A line about a step, in the terminal."""
        names = list(self.plan)
        print(f"[{names.index(step) + 1}/{len(names)}] {step}: {text}", flush=True)

    def skip(self, step: str) -> State[Any]:
        """A step that DVC found up to date a moment ago, when the plan was made."""
        self.say(step, "up to date")
        return Completed(message="up to date")

    def fail(self, message: str, *, told: bool = False) -> State[Any]:
        """Remember why the run ends here, and say it unless the stage has said it."""
        self.failure = self.failure or message
        if not told:
            print(f"error: {message}", file=sys.stderr, flush=True)
        return Failed(message=message)


def make_task(stage: Stage) -> Task[..., Any]:
    """The Prefect task of a stage."""
    return _as_task(stage.name, stage.summary, functools.partial(_run_stage, stage))


def make_tasks() -> dict[str, Task[..., Any]]:
    """Every step of the chain, in order: the stages, then what is not DVC's."""
    return {
        **{stage.name: make_task(stage) for stage in STAGES},
        MEASURE: _as_task(MEASURE, "time the candidates on this machine and write the model card", _measure),
        REGISTER: _as_task(REGISTER, "log what was measured, register the quantized model, ask the gate", _register),
    }


def _as_task(name: str, description: str, body: "Callable[[Run], State[Any]]") -> Task[..., Any]:
    def step(run: Run) -> State[Any]:
        try:
            if changed := upkeep.changed_params(run.project, run.params):
                return run.fail(changed)
            return body(run)
        except MlflowException as error:
            words = str(error).splitlines()[0]
            return run.fail(f"MLflow could not record {name} ({words}); what the stages made is kept: run it again")
        except ValueError as error:
            return run.fail(str(error))
        except OSError as error:
            return run.fail(artifacts.explain(error))
        except Exception:
            traceback.print_exc()  # a fault of ours: Prefect would keep the traceback to itself
            raise

    return task(
        step, name=name, task_run_name=name, description=description, cache_policy=NO_CACHE, persist_result=False
    )


def _run_stage(stage: Stage, run: Run) -> State[Any]:
    planned = run.plan[stage.name]
    if not planned.runs:
        return run.skip(stage.name)
    run.record.begin()
    if stage.name == SPLITS and (kept := pictures.keep_splits(run.project, run.params)):
        run.say(stage.name, kept)
    if SPLITS in stage.inputs:  # hours of training may lead up to the gate
        upkeep.check_rules(run.project, run.params)
    run.say(stage.name, f"{stage.summary} ({planned.reasons[0]})")
    with run.record.training(stage.name):
        outcome = store.repro(run.project, stage.name, force=stage.name in run.force)
    if outcome.state == "failed":
        return run.fail(outcome.message, told=outcome.told)
    upkeep.forget_checkpoints(run.project, stage.name)
    if outcome.state == "ran":
        run.ran.add(stage.name)
        summary.note_seconds(run.project, stage.name, outcome.seconds)
        run.record.add_seconds(stage.name, outcome.seconds)
        run.record.finish_child(stage.name)
    done = f"done in {outcome.seconds:.0f} s"
    message = {"ran": done, "restored": "restored from DVC's cache: made before from the same inputs"}.get(
        outcome.state
    )
    run.say(stage.name, message or outcome.state)
    return Completed(message=message or outcome.state)


def _measure(run: Run) -> State[Any]:
    if not plan.unmeasured(run.project):
        return run.skip(MEASURE)
    run.say(MEASURE, "time the candidates on this machine")
    started = time.monotonic()
    command = [sys.executable, "-m", "temper", MEASURE]
    ended = terminal.run(command, cwd=run.project.folder, env=run.project.child_environment())
    if ended.code:
        message, told = failure.read(MEASURE, ended)
        return run.fail(message, told=told)
    seconds = time.monotonic() - started
    run.ran.add(MEASURE)
    summary.note_seconds(run.project, MEASURE, seconds)
    return Completed(message=f"done in {seconds:.0f} s")


def _register(run: Run) -> State[Any]:
    started = time.monotonic()
    new = plan.unregistered(run.project, run.params)
    if new or run.ran & _WORTH_A_RECORD:
        run.record.begin()
        run.record.add_evaluation()
        run.registered, reason = registry.register(
            run.record.client, run.project, run.params, run.record.child(CANDIDATE)
        )
    else:
        digest = plan.candidates(run.project)[CANDIDATE]["digest"]
        run.registered, reason = catalogue.find(run.project, run.params.project, digest), "it was registered before"
    if new:
        summary.note_seconds(run.project, REGISTER, time.monotonic() - started)
    version = run.registered
    if version is None:
        raise AssertionError("the model is neither registered nor new")
    said = f"version {version.version} of {version.name} ({', '.join(version.aliases) or 'no alias'}): {reason}"
    run.say(REGISTER, said)
    return Completed(message=said)


def reap(flows: tuple[str, ...], *, begun: bool = False) -> int:
    """Mark runs of flows that still say they are running, though their process is dead, as crashed.

    Args:
        flows: Their names.
        begun: Leave alone those that wait for their time.

    Returns:
        How many there were.
    """
    alive = {"state": {"type": {"any_": [state for state in _ALIVE if not (begun and state == "SCHEDULED")]}}}
    crashed, count = Crashed(message="its process ended without a word"), 0
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(flows))),
            flow_run_filter=FlowRunFilter.model_validate(alive),
        )
        for found in runs:
            owner = Owner.read(found.parameters.get("process"))
            if owner is not None and not owner.dead:
                continue
            tasks = client.read_task_runs(
                flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [found.id]}}),
                task_run_filter=TaskRunFilter.model_validate(alive),
            )
            for each in tasks:
                client.set_task_run_state(each.id, crashed, force=True)
            client.set_flow_run_state(found.id, crashed, force=True)
            count += 1
    return count + settle(flows)


def settle(flows: tuple[str, ...]) -> int:
    """Give task runs that still say they are running, though their flow run has ended, their end.

    Flow runs are told of over the server's interface, task runs by events; those are lost with a server that is killed.

    Returns:
        How many there were.
    """
    count = 0
    with get_client(sync_client=True) as client:
        for end in ("COMPLETED", "FAILED", "CRASHED", "CANCELLED"):
            runs = client.read_task_runs(
                flow_filter=FlowFilter(name=FlowFilterName(any_=list(flows))),
                flow_run_filter=FlowRunFilter.model_validate({"state": {"type": {"any_": [end]}}}),
                task_run_filter=TaskRunFilter.model_validate({"state": {"type": {"any_": _ALIVE}}}),
            )
            for found in runs:
                lost = "Prefect's server was killed before it heard of the end"
                state = Completed(message=lost) if end == "COMPLETED" else Crashed(message=lost)
                client.set_task_run_state(found.id, state, force=True)
                count += 1
    return count
