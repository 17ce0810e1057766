"""Starts the agent of a training on this host and waits for it, taking it along when this process is told to end."""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path
from types import FrameType, MappingProxyType

from temper.engine.distributed.launch_spec import (
    ALONE,
    LOOPBACK,
    Offer,
    Order,
    explain_difference,
    parse_address,
)
from temper.engine.distributed.ranks import PARENT
from temper.engine.distributed.shutdown import LOST, SIGNALS, STOPPED, TOO_LARGE
from temper.engine.params import HostsParams

LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""For GLIBC_TUNABLES: memory comes in pages of 2 MB, where the kernel has such on request; 3 to 19 % faster steps on processors."""
SHORT_SPIN = "20000"
"""For GOMP_SPINCOUNT. Threads that wait for each other by spinning stand still for whole time slices when another process wants a
core: 10 to 25 times slower with one busy neighbour on two cores. Spinning briefly costs 7 % when alone."""
_GRACE_S = 9.0
"""Between telling the agent to end and ending it; its ranks take half of that at most, and end with it in any case."""
_QUIET = ("TORCH_CPP_LOG_LEVEL", "ERROR")
"""Torch tells of every connection that broke; what matters of it is said by the ranks and the agent."""


def start_ranks(
    stage: str,
    project: Path,
    num: int,
    *,
    hosts: HostsParams = ALONE,
    address: str = f"{LOOPBACK}:0",
    made_of: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a stage as the ranks of one training; again with smaller parts of a batch whenever memory ran out.

    Args:
        stage: Its name.
        project: The folder.
        num: Ranks on this host.
        hosts: How many take part, this one being the first, and when one is lost.
        address: Of this host, as the others reach it, with a port or without.
        made_of: Digests of what must be the same on every host.

    Returns:
        Exit status of the training: 0 if it was finished, 143 if it was told to stop.
    """
    where, port = parse_address(address)
    offer = Offer(uuid.uuid4().hex, stage, dict(made_of), hosts)
    while (code := _wait(Order(_rank(stage, project), num, True, where, port, offer))) == TOO_LARGE:
        pass
    return code


def take_part(
    project: Path,
    address: str,
    prepare: Callable[[str], tuple[int, Mapping[str, str]]],
    *,
    wait_s: float,
) -> int:
    """Take part in whatever the first host trains, one training after the other, until none is begun for some time.

    A host that loses the first one out of sight tries to come back.

    Args:
        project: The folder.
        address: Of the first host.
        prepare: For a stage: ranks on this host, and digests of what must be the same.
        wait_s: How long to wait for a training.

    Returns:
        0 after all trainings it took part in, else the status of the one that failed.

    Raises:
        ValueError: If no training was begun in time, or something is not the same here.
    """
    os.environ.setdefault(*_QUIET)
    from temper.engine.distributed.rendezvous import await_offer

    where, port = parse_address(address)
    done: set[str] = set()
    while True:
        print(f"waiting up to {wait_s:.0f} s for a training at {where}:{port}", file=sys.stderr, flush=True)
        offer = await_offer(where, port, wait_s=wait_s, done=done)
        if offer is None:
            if done:
                return 0
            raise ValueError(
                f"no training was begun at {where}:{port} within {wait_s:.0f} s; run `make pipeline HOST={address}` there, and this "
                "command again; a firewall may be in the way"
            )
        num, made_of = prepare(offer.stage)
        if said := explain_difference(made_of, offer, where):
            raise ValueError(said)
        print(f"{offer.stage}: taking part with {num} ranks", file=sys.stderr, flush=True)
        code = _wait(Order(_rank(offer.stage, project), num, False, where, port, offer))
        if code == 0:
            done.add(offer.run)
        elif code not in (LOST, TOO_LARGE):
            return code


def _rank(stage: str, project: Path) -> tuple[str, ...]:
    return ("-m", "temper", "stage", stage, "--project", str(project))


def rank_environment(num_ranks: int) -> dict[str, str]:
    """Variables with which a rank computes; libraries read them once, when they are loaded.

    Args:
        num_ranks: How many share this machine's cores.
    """
    return {
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // num_ranks)),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", LARGE_PAGES),
        "GOMP_SPINCOUNT": SHORT_SPIN,
    }


def _wait(order: Order) -> int:
    environment = {
        **os.environ,
        **rank_environment(order.num_ranks),
        "LOGLEVEL": "CRITICAL",
        _QUIET[0]: _QUIET[1],
        PARENT: str(os.getpid()),
    }
    asked: list[float] = []

    def forward(number: int, frame: FrameType | None) -> None:
        # Once: a second signal would disturb the agent while it waits for its ranks.
        if not asked:
            asked.append(time.monotonic())
            process.send_signal(signal.SIGTERM)

    process = subprocess.Popen(
        [sys.executable, "-m", "temper.engine.distributed.elastic_agent", order.encode()], env=environment
    )
    before = {number: signal.signal(number, forward) for number in SIGNALS}
    try:
        while True:
            try:
                code = process.wait(timeout=0.5)
            except subprocess.TimeoutExpired:
                if asked and time.monotonic() - asked[0] > _GRACE_S:
                    process.kill()
                continue
            if code and (asked or code == -signal.SIGTERM):
                return STOPPED
            return code if code >= 0 else 128 - code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
