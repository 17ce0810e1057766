"""Prefect's records of flow and task runs: finds the last one, closes those whose process is dead."""

from pathlib import Path
from typing import Any

from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowFilter, FlowFilterName, FlowRunFilter, TaskRunFilter
from prefect.client.schemas.objects import State
from prefect.client.schemas.sorting import FlowRunSort
from prefect.states import Completed, Crashed

from temper.ops.system.process_identity import Owner

_ALIVE = ["RUNNING", "PENDING", "SCHEDULED", "CANCELLING"]
"""Prefect's state types of runs that have not ended."""


def close_dead(project: Path, flows: tuple[str, ...], *, begun: bool = False) -> int:
    """Mark flow runs as crashed that have not ended in Prefect although their process is dead.

    Args:
        project: Folder of the project whose runs are closed; a server may have those of others, too.
        flows: Names of the flows.
        begun: Only close runs that have begun; runs that wait for their scheduled time stay as they are.

    Returns:
        Number of closed records.
    """
    alive = {"state": {"type": {"any_": [state for state in _ALIVE if not (begun and state == "SCHEDULED")]}}}
    crashed: State[Any] = Crashed(message="its process ended without reporting a final state")
    count = 0
    with get_client(sync_client=True) as client:
        runs = client.read_flow_runs(
            flow_filter=FlowFilter(name=FlowFilterName(any_=list(flows))),
            flow_run_filter=FlowRunFilter.model_validate(alive),
        )
        for found in runs:
            if found.parameters.get("project") != str(project):
                continue
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


def find_last() -> str | None:
    """Return the id of the flow run that began last, or None if no flow ever ran."""
    with get_client(sync_client=True) as client:
        # Scheduled runs that have not begun would sort first.
        begun = FlowRunFilter.model_validate({"start_time": {"is_null_": False}})
        found = client.read_flow_runs(flow_run_filter=begun, sort=FlowRunSort.START_TIME_DESC, limit=1)
    return str(found[0].id) if found else None


def reconcile(flows: tuple[str, ...]) -> int:
    """Close task runs that have not ended in Prefect although their flow run has ended.

    Flow runs report their states through the server's API. Task runs report theirs by events, which are lost
    if the server is killed.

    Returns:
        Number of closed task runs.
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
                lost = "Prefect's server was killed before it received the final state"
                state: State[Any] = Completed(message=lost) if end == "COMPLETED" else Crashed(message=lost)
                client.set_task_run_state(found.id, state, force=True)
                count += 1
    return count
