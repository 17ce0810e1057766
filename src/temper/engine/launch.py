"""The agent: starts ranks through torchrun and ends quietly, with the status of the rank that failed of its own accord.

A rank prints its own error, the agent's traceback says nothing more; only of a rank that had no time to speak does the agent speak.
"""

import logging
import os
import signal
import sys
from collections.abc import Mapping

from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
from torch.distributed.run import main

from temper.engine.ranks import PARENT
from temper.engine.stopping import LOST, STOPPED, TOO_LARGE
from temper.leash import end_with_parent


def judge(codes: Mapping[int, int]) -> tuple[int, str]:
    """The status with which a training ends, and what is to be said.

    When a rank fails, the others fail for it: they lose their fellow, or the agent tells them to stop. So the cause is whoever
    ended otherwise.

    Args:
        codes: Rank -> exit status, negative for a signal; of those that failed.
    """
    if TOO_LARGE in codes.values():
        return TOO_LARGE, ""
    for rank, code in sorted(codes.items()):
        if code < 0 and -code != signal.SIGTERM:
            name = signal.Signals(-code).name
            hint = " (the kernel does that where memory runs out: `dmesg` tells)" if -code == signal.SIGKILL else ""
            return 1, (
                f"error: rank {rank} was ended by {name}{hint}; run the same command again: it goes on from the last checkpoint"
            )
    own = [code for code in codes.values() if code > 0 and code not in (LOST, STOPPED)]
    if own:
        return own[0], ""
    if LOST in codes.values() and STOPPED not in codes.values() and -signal.SIGTERM not in codes.values():
        return 1, "error: the ranks lost each other; run the same command again: it goes on from the last checkpoint"
    return STOPPED, ""


if __name__ == "__main__":
    if parent := os.environ.get(PARENT):
        end_with_parent(int(parent))
    os.environ[PARENT] = str(os.getpid())
    logging.disable(logging.ERROR)
    try:
        main(sys.argv[1:])
    except SignalException:
        sys.exit(STOPPED)
    except ChildFailedError as error:
        status, text = judge({rank: failure.exitcode for rank, failure in error.failures.items()})
        if text:
            print(text, file=sys.stderr)
        sys.exit(status)
