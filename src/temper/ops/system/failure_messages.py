"""Why a command failed, as a paragraph: the step's own words, DVC's, or the signal that ended it."""

import os
import re
import signal

from temper import artifacts
from temper.ops.system import subprocesses


def read(step: str, ended: subprocesses.Ended) -> tuple[str, bool]:
    """The paragraph a failed command ended with, DVC's own words if the step did not get to speak; and who said it."""
    for line in reversed(ended.err):
        if line.startswith("error: "):
            return line.removeprefix("error: "), True
    for line in reversed(ended.err):
        # Of a stage that was killed DVC says: failed to run: python -m temper stage train, exited with -9
        if (found := re.search(r"failed to run: .*, exited with (-?\d+)$", line)) and (
            name := _signal(int(found[1]))
        ):
            return _say_killed(step, name), False
        if line.startswith("ERROR: ") and "failed to run:" not in line:
            return explain(line.removeprefix("ERROR: ")), False
    if name := _signal(ended.code):
        return _say_killed(step, name), False
    return (
        f"{step} ended with status {ended.code}; unless the lines above say why, run the same command again",
        False,
    )


def _signal(code: int) -> str | None:
    """The signal that ended a process, by its status: minus the signal, or, told by the process that waited for it, 128 more."""
    number = -code if code < 0 else code - 128
    return next((each.name for each in signal.Signals if each == number), None)


def _say_killed(step: str, name: str) -> str:
    return f"the process that ran {step} was ended by {name}; run the same command again: it goes on where it was"


def explain(words: str) -> str:
    """DVC's words, with a way out where the disk is to blame."""
    found = re.search(r"\[Errno (\d+)\] [^:]*(?:: '([^']*)')?", words)
    return artifacts.explain(OSError(int(found[1]), os.strerror(int(found[1])), found[2])) if found else words
