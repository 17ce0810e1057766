"""Starts the ranks of a training through torchrun and waits for them, taking them along when this process is told to end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType

from temper.engine.ranks import PARENT
from temper.engine.stopping import SIGNALS, STOPPED, TOO_LARGE

_GRACE_S = 9.0
"""Between telling the agent to end and ending it; its ranks take half of that at most, and end with it in any case."""


def start_ranks(stage: str, project: Path, num: int) -> int:
    """Run a stage as the ranks of one training; again with smaller parts of a batch whenever memory ran out.

    Returns:
        Exit status of the training: 0 if it was finished, 143 if it was told to stop.
    """
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // num)),
        # Threads that wait for each other by spinning stand still for whole time slices when another process wants a
        # core: 10 to 25 times slower with one busy neighbour on two cores. Spinning briefly costs 7 % when alone.
        "GOMP_SPINCOUNT": "20000",
        "LOGLEVEL": "CRITICAL",
        PARENT: str(os.getpid()),
    }
    command = [sys.executable, "-m", "temper.engine.launch", "--standalone", f"--nproc-per-node={num}"]
    command += ["-m", "temper", stage, "--project", str(project)]
    while (code := _wait(command, environment)) == TOO_LARGE:
        pass
    return code


def _wait(command: list[str], environment: dict[str, str]) -> int:
    asked: list[float] = []

    def forward(number: int, frame: FrameType | None) -> None:
        # Once: a second signal would disturb the agent while it waits for its ranks.
        if not asked:
            asked.append(time.monotonic())
            process.send_signal(signal.SIGTERM)

    process = subprocess.Popen(command, env=environment)
    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        while True:
            try:
                code = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if asked and time.monotonic() - asked[0] > _GRACE_S:
                    process.kill()
                continue
            if code and (asked or code == -signal.SIGTERM):
                return STOPPED
            return code if code >= 0 else 128 - code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
