"""Why a command failed, as a paragraph: the step's message, DVC's message, or the signal that ended it."""

import os
import re
import signal

from temper import artifacts
from temper.ops.system import subprocesses


def read(step: str, ended: subprocesses.Ended) -> tuple[str, bool]:
    """Return the error paragraph of a failed command, and whether the step itself printed it.

    If the step printed no error, the paragraph is made from DVC's message, the signal, or the exit status.
    """
    for line in reversed(ended.err):
        if line.startswith("error: "):
            return line.removeprefix("error: "), True
    for line in reversed(ended.err):
        # For a killed stage, DVC prints: failed to run: python -m temper stage train, exited with -9
        if (found := re.search(r"failed to run: .*, exited with (-?\d+)$", line)) and (
            name := _signal(int(found[1]))
        ):
            return _format_killed(step, name), False
        if line.startswith("ERROR: ") and "failed to run:" not in line:
            return explain(line.removeprefix("ERROR: ")), False
    if name := _signal(ended.code):
        return _format_killed(step, name), False
    return (
        f"{step} ended with status {ended.code}; if the lines above give no reason, run the same command "
        "again",
        False,
    )


def _signal(code: int) -> str | None:
    """Return the name of the signal that ended a process, or None.

    The status is minus the signal, or 128 plus the signal if the process's parent reports it.
    """
    number = -code if code < 0 else code - 128
    return next((each.name for each in signal.Signals if each == number), None)


def _format_killed(step: str, name: str) -> str:
    return (
        f"the process that ran {step} was ended by {name}; run the same command again: "
        "it continues where it stopped"
    )


def explain(words: str) -> str:
    """Return DVC's message, with advice if the file system caused the failure."""
    found = re.search(r"\[Errno (\d+)\] [^:]*(?:: '([^']*)')?", words)
    return artifacts.explain(OSError(int(found[1]), os.strerror(int(found[1])), found[2])) if found else words
