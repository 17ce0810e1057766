"""Graceful stops: after SIGTERM, SIGINT or SIGHUP, a rank finishes its step and always ends within seconds.

Python runs signal handlers in the main thread, between two of its instructions. It therefore does not run
them while that thread waits in a collective operation for a rank that no longer exists. A second thread gets
the signal through a pipe and ends the process when its time is up. The other ranks have less time than the
first. If only one of them gets the signal, the agent then stops the first rank, which must still end within
ten seconds of that signal.
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
"""Exit status of a rank that lost the other ranks; it prints no error, because they have printed theirs."""
TOO_LARGE = 75
"""Exit status of a rank that ran out of memory and requests a restart of all ranks (EX_TEMPFAIL of
sysexits.h)."""
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_FIRST_S, _OTHERS_S = 5.0, 4.0


@contextmanager
def stopping(*, first: bool, num: int = 1) -> Iterator[Callable[[], bool]]:
    """Record signals in this context instead of ending the process.

    Yields a function that returns whether a signal came. If the body raises after a signal, the process ends
    with status 143 and no traceback; an error that the user can fix (OSError, ValueError) is still raised.
    Use it only in the main thread.

    Args:
        first: Whether this is the rank that writes files.
        num: Number of ranks.
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
            _leave(error.code)  # cleaning up would wait for the other ranks
        if num > 1 and _lost(error):
            _leave(LOST)
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before_fd)
        os.close(write)


def _end_in_time(read: int, grace_s: float) -> None:
    """Wait for one of the signals and then for the grace period, then end the process."""
    while number := os.read(read, 1):  # empty: the other end was closed
        if number[0] in SIGNALS:
            time.sleep(grace_s)
            os._exit(STOPPED)  # without flushing, which would block on a full pipe
    os.close(read)


def _leave(status: int) -> NoReturn:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


def _lost(error: BaseException) -> bool:
    """Return whether an error means that another rank was lost; gloo reports this only as text."""
    from torch import distributed

    return isinstance(error, distributed.DistError) or (
        isinstance(error, RuntimeError) and "gloo" in str(error)
    )
