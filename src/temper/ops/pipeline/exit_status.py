"""How a command ends: its exit status, and a paragraph instead of a traceback if a user can fix the error."""

import os
import sys
import traceback
from collections.abc import Callable

from temper import artifacts
from temper.ops.system import project_lock

OK, STOPPED, USER_ERROR, SKIPPED, INTERRUPTED = 0, 1, 2, 75, 130
DEBUG = "TEMPER_DEBUG"
"""Variable with which tracebacks are printed, too."""
GOES_ON = "run the same command again; it continues where it stopped"


def run(act: Callable[[], int], *, skip: bool = False, interrupted: str = GOES_ON) -> int:
    """Run a function and turn its errors into messages; returns the exit status.

    Args:
        act: Function that does the work and returns the exit status.
        skip: Treat it as a skipped run, not as an error, if another run holds the project.
        interrupted: Message after Ctrl-C.
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


def _refuse(reason: str) -> int:
    if os.environ.get(DEBUG):
        traceback.print_exc()
    print(f"error: {reason}", file=sys.stderr)
    return USER_ERROR
