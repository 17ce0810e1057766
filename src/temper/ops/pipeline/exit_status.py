"""How a command ends: its exit status, and what a user can mend as a paragraph instead of a traceback."""

import sys
from collections.abc import Callable

from temper import artifacts
from temper.ops.system import project_lock

OK, STOPPED, USER_ERROR, SKIPPED, INTERRUPTED = 0, 1, 2, 75, 130
GOES_ON = "run the same command again, it goes on where it was"


def run(act: Callable[[], int], *, skip: bool = False, interrupted: str = GOES_ON) -> int:
    """Do what was asked; returns the exit status.

    Args:
        act: Does it, and returns the exit status.
        skip: That another run holds the project is no error.
        interrupted: What is said after Ctrl-C.
    """
    try:
        return act()
    except project_lock.Busy as error:
        if not skip:
            return _refuse(str(error))
        print(f"skipped: {error}")
        return SKIPPED
    except ValueError as error:
        return _refuse(str(error))
    except OSError as error:
        return _refuse(artifacts.explain(error))
    except KeyboardInterrupt:
        print(f"interrupted: {interrupted}", file=sys.stderr)
        return INTERRUPTED


def _refuse(why: str) -> int:
    print(f"error: {why}", file=sys.stderr)
    return USER_ERROR
