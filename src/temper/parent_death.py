"""A process that ends with the one that started it, so that killing a parent leaves no child.

The kernel sends SIGTERM to a process when its parent ends (Linux; elsewhere nothing happens, and the next run clears up
what was left). As a script, `leash.py PARENT COMMAND...` becomes that command on such a leash.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to send this process SIGTERM when its parent ends; if it has ended already, end now.

    Args:
        parent: Process id of the one to end with; by default whoever is the parent now.
    """
    if not sys.platform.startswith("linux"):
        return
    expected = os.getppid() if parent is None else parent
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != expected:
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    end_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])
