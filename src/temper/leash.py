"""A process that ends with the one that started it, so that killing a parent leaves no child.

The kernel sends SIGTERM to a process when its parent's starting thread ends (Linux only; elsewhere nothing happens and the next run's
`end_orphans` clears up).
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to send this process SIGTERM when its parent ends; if it has ended already, end now.

    Args:
        parent: Process id of the expected parent; by default the present one. Only with it is a parent noticed that ended
            before this call: an orphan's new parent need not be process 1, and process 1 may be a true parent (containers).
    """
    if not sys.platform.startswith("linux"):
        return
    expected = os.getppid() if parent is None else parent
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != expected:
        os.kill(os.getpid(), signal.SIGTERM)
