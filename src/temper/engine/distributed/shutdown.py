"""Stopping gracefully: on SIGTERM, SIGINT or SIGHUP a rank finishes its step and ends within seconds, whatever happens.

Python runs signal handlers in the main thread, between two of its instructions, so not while that thread waits in a collective
for a rank that is gone. A second thread therefore hears of the signal through a pipe and ends the process when its time is
up. The other ranks have less time than the first: if one of them alone is told to end, the first one, which the agent tells
then, must still be gone ten seconds after.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

STOPPED = 143
"""Exit status after a signal: 128 + SIGTERM, as shells count."""
LOST = 76
"""Exit status of a rank whose fellow ranks went away; it has nothing to say that they have not said."""
TOO_LARGE = 75
"""Exit status of a rank that ran out of memory and wants all to be started again (EX_TEMPFAIL of sysexits.h)."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FIRST_S, _OTHERS_S = 5.0, 4.0


@contextmanager
def stopping(*, first: bool, num: int = 1) -> Iterator[Callable[[], bool]]:
    """Inside, signals are marked instead of ending the process; yields a function that tells whether one came.

    However the body ends after a signal, the process ends with status 143 and no traceback; an error that a user can mend is
    still shown. Only for the main thread.

    Args:
        first: Whether this is the rank that writes files.
        num: How many ranks there are.
    """
    asked = threading.Event()

    def mark(number: int, frame: FrameType | None) -> None:
        asked.set()

    read, write = os.pipe()
    os.set_blocking(write, False)
    threading.Thread(target=_end_in_time, args=(read, _FIRST_S if first else _OTHERS_S), daemon=True).start()
    before_fd = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    before = {number: signal.signal(number, mark) for number in SIGNALS}
    try:
        yield asked.is_set
    except (OSError, ValueError):
        raise
    except BaseException as error:
        if asked.is_set():
            _leave(STOPPED)
        if num > 1 and isinstance(error, SystemExit) and isinstance(error.code, int):
            _leave(error.code)  # tidying up would wait for the others
        if num > 1 and _lost(error):
            _leave(LOST)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        os.close(write)


def _end_in_time(read: int, grace_s: float) -> None:
    """Wait for one of the signals, then for the grace to be over, then end the process."""
    while number := os.read(read, 1):  # nothing: the other end was closed
        if number[0] in SIGNALS:
            time.sleep(grace_s)
            os._exit(STOPPED)  # without flushing: a full pipe would wait, too
    os.close(read)


def _leave(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _lost(error: BaseException) -> bool:
    """Whether an error means that another rank went away: gloo says so in words only."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )
