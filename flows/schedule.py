"""`make schedule`: look for new images by the clock, and train again where there is reason to, until Ctrl-C.

A Prefect server of the project's own, on 127.0.0.1, keeps the times in `.temper/prefect`; they outlive this process. One run at a time. After
a sleep over many times one run makes up for them: the others are cancelled, and say so. A run is
`python -m flows retrain --scheduled` in a process of its own, so that a run that dies takes nothing with it.
"""

import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from temper.config import Params
from temper.ops.prefect import server
from temper.ops.project import ROOT, Project

PORT = 4200


@contextmanager
def only_one(project: Project) -> Iterator[None]:
    """Hold the project's schedule.

    Raises:
        ValueError: If another process does.
    """
    project.hidden.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "schedule.lock").open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another `make schedule` works on {project.folder}; end it first") from None
        yield


def serve(project: Project, params: Params) -> None:
    """Keep to the times in params.yaml until interrupted."""
    retrain = params.retrain
    with only_one(project), server.serve(project, port=PORT, services=True) as prefect_server:
        from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
        from prefect.schedules import Cron
        from prefect.types.entrypoint import EntrypointType

        from flows.scheduled import FLOW, scheduled
        from temper.ops.prefect import run_records

        prefect_server.wait()
        # Else they would hold the place of the one run there may be.
        if dead := run_records.close_dead((FLOW,), begun=True):
            print(f"closed {dead} records of runs that were killed")
        # At SIGTERM Prefect asks itself to stop in a way that nobody waits for; the server and the run end with this process.
        warnings.filterwarnings("ignore", "coroutine 'Runner.astop'", RuntimeWarning)
        os.chdir(ROOT)  # where a run finds its flow by name
        print(
            f"looking at {retrain.cron!r} ({retrain.timezone}) for new images of {params.project}; http://127.0.0.1:{PORT} "
            "shows the runs; Ctrl-C ends it, the times stay",
            flush=True,
        )
        scheduled.serve(
            name=params.project,
            schedule=Cron(retrain.cron, timezone=retrain.timezone),
            parameters={"project": str(project.folder)},
            limit=1,
            global_limit=ConcurrencyLimitConfig(
                limit=1, collision_strategy=ConcurrencyLimitStrategy.CANCEL_NEW
            ),
            pause_on_shutdown=False,
            print_starting_message=False,
            entrypoint_type=EntrypointType.MODULE_PATH,
        )
