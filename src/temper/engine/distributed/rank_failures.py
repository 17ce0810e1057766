"""What the exit statuses of ranks mean: the cause of a failure, its message, and whether a restart may help.

This module does not import torch, because the process that starts a single rank uses it, too.
"""

import signal
from collections.abc import Mapping

from temper.engine.distributed.shutdown import LOST, STOPPED, TOO_LARGE


def restartable(codes: Mapping[int, int]) -> bool:
    """Return whether a restart of the ranks from the last checkpoint may help.

    It may if all failed ranks were killed, lost each other or ran out of memory. After a failure, the agent
    stops the ranks that still run. Stopped ranks are therefore ignored if another rank was killed or ran out
    of memory; together with lost connections only, they forbid a restart.

    Args:
        codes: Rank -> exit status of the failed ranks, negative for a signal.
    """
    ended, stopped = set(codes.values()), {STOPPED, -signal.SIGTERM}
    causes = {code for code in ended - stopped if code < 0 or code == TOO_LARGE}
    return all(code in causes or code == LOST for code in (ended - stopped if causes else ended))


def judge(codes: Mapping[int, int]) -> tuple[int, str]:
    """Return the exit status of a training, and the message to print.

    When a rank fails, the others fail as a consequence: they lose the connection to it, or the agent stops
    them. The cause is therefore a rank that ended in another way.

    Args:
        codes: Rank -> exit status of the failed ranks, negative for a signal; empty if a host was lost.
    """
    if TOO_LARGE in codes.values():
        return TOO_LARGE, ""
    for rank, code in sorted(codes.items()):
        if code < 0 and -code != signal.SIGTERM:
            name = signal.Signals(-code).name
            hint = (
                " (the kernel does this when memory runs out; `dmesg` shows it)"
                if -code == signal.SIGKILL
                else ""
            )
            return 1, (
                f"error: rank {rank} was ended by {name}{hint}; "
                "run the same command again to continue from the last checkpoint"
            )
    own = [code for code in codes.values() if code > 0 and code not in (LOST, STOPPED)]
    if own:
        return own[0], ""
    if not codes or (
        LOST in codes.values() and STOPPED not in codes.values() and -signal.SIGTERM not in codes.values()
    ):
        return (
            1,
            "error: the ranks lost the connection to each other; "
            "run the same command again to continue from the last checkpoint",
        )
    return STOPPED, ""
