"""The flow that Prefect starts on schedule.

It is separate from `schedule.py`, since Prefect reads its settings when it is imported.
"""

import os
import sys
from datetime import UTC, datetime
from typing import Any

from prefect import flow, runtime
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter
from prefect.states import Cancelled, Completed, Failed

from temper.make_command import ROOT
from temper.ops.pipeline import exit_status
from temper.ops.prefect import server
from temper.ops.system import subprocesses

FLOW = "scheduled retraining"


@flow(name=FLOW, persist_result=False, validate_parameters=False)
def scheduled(project: str) -> Any:
    """Run one scheduled retraining."""
    cancel_missed(runtime.flow_run.id, runtime.deployment.id)
    retrain = [sys.executable, "-m", "flows", "retrain", "--scheduled", "--project", project]
    ended = subprocesses.run(retrain, cwd=ROOT, env={**os.environ, server.URL: os.environ["PREFECT_API_URL"]})
    decisions = [line for line in ended.out if line.startswith(("retrain", "skipped"))]
    if ended.code in (exit_status.OK, exit_status.SKIPPED):
        return Completed(message=decisions[-1] if decisions else "done")
    errors = [line for line in ended.err if line.startswith("error: ")]
    return Failed(message=errors[-1] if errors else f"ended with status {ended.code}")


def cancel_missed(mine: Any, deployment: Any) -> int:
    """Cancel the runs, except this one, that were due before now and have not begun; returns their number."""
    now = datetime.now(UTC)
    overdue = {
        "deployment_id": {"any_": [deployment]},
        "state": {"type": {"any_": ["SCHEDULED"]}},
        "expected_start_time": {"before_": now},
    }
    count = 0
    with get_client(sync_client=True) as client:
        for run in client.read_flow_runs(flow_run_filter=FlowRunFilter.model_validate(overdue)):
            if str(run.id) != str(mine):
                client.set_flow_run_state(
                    run.id, Cancelled(message="missed: a later run made up for it"), force=True
                )
                count += 1
    return count
