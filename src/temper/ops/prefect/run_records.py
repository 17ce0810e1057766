"""Prefect's records of flow and task runs: end those whose process is dead."""

from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import State
from prefect.states import Completed, Crashed

from temper.ops.system.process_identity import Owner

_ALIVE = ["RUNNING", "PENDING", "SCHEDULED", "CANCELLING"]
"""Prefect's types of states that are no end."""


def close_dead(flows: tuple[str, ...], *, begun: bool = False) -> int:
    """Mark runs of flows that still say they are running, though their process is dead, as crashed.

    Args:
        flows: Their names.
        begun: Leave alone those that wait for their time.

    Returns:
        How many there were.
    """
    alive = {"state": {"type": {"any_": [state for state in _ALIVE if not (begun and state == "SCHEDULED")]}}}
    crashed: State[Any] = Crashed(message="its process ended without a word")
    count = 0
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
    return count + reconcile(flows)


def reconcile(flows: tuple[str, ...]) -> int:
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
                state: State[Any] = Completed(message=lost) if end == "COMPLETED" else Crashed(message=lost)
                client.set_task_run_state(found.id, state, force=True)
                count += 1
    return count
