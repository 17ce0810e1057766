"""End a process together with its parent, so that killing a parent leaves no child.

The kernel sends SIGTERM to a process when its parent ends. This works only on Linux; elsewhere nothing
happens, and the next run cleans up. As a script, `parent_death.py PARENT COMMAND...` becomes that command and
ends with its parent.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def end_with_parent(parent: int | None = None) -> None:
    """Ask the kernel to send this process SIGTERM when its parent ends. If it has already ended, end now.

    Args:
        parent: Process id of the parent with which to end; by default the current parent.
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
