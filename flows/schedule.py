"""`make schedule`: look for new images on schedule, and train again if there is a reason to, until Ctrl-C.

The project has its own Prefect server on 127.0.0.1. It stores the schedule in `.temper/prefect`, where the
schedule outlives this process. Only one run takes place at a time. If the machine slept over several
scheduled times, one run makes up for them; the other runs are cancelled with a message that says so. Each run
is `python -m flows retrain --scheduled` in a separate process, so a run that dies affects nothing else.
"""

import fcntl
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from temper.config import Params
from temper.make_command import ROOT
from temper.ops.prefect import server
from temper.ops.project import Project

PORT = 4200


@contextmanager
def only_one(project: Project) -> Iterator[None]:
    """Hold the lock of the project's schedule.

    Raises:
        ValueError: If another process holds it.
    """
    project.hidden.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "schedule.lock").open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(f"another `{project.make('schedule')}` is running; end it first") from None
        yield


def serve(project: Project, params: Params) -> None:
    """Retrain at the times in params.yaml until interrupted."""
    retrain = params.retrain
    with only_one(project), server.serve(project, port=PORT, services=True) as prefect_server:
        from prefect.client.schemas.objects import ConcurrencyLimitConfig, ConcurrencyLimitStrategy
        from prefect.schedules import Cron
        from prefect.types.entrypoint import EntrypointType

        from flows.scheduled import FLOW, scheduled
        from temper.ops.prefect import run_records

        prefect_server.wait()
        # Otherwise dead runs would count towards the limit of one run at a time.
        if dead := run_records.close_dead(project.folder, (FLOW,), begun=True):
            print(f"closed {dead} records of runs that were killed")
        # At SIGTERM Prefect makes a coroutine to stop itself and never awaits it. That does no harm: the
        # server and the run end with this process.
        warnings.filterwarnings("ignore", "coroutine 'Runner.astop'", RuntimeWarning)
        os.chdir(ROOT)  # here a run finds its flow by the module's name
        print(
            f"looking for new images of {params.project} at {retrain.cron!r} ({retrain.timezone}); "
            f"http://127.0.0.1:{PORT} shows the runs; Ctrl-C ends it, and the schedule is kept",
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
