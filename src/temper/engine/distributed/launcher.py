"""Starts the ranks of a training on this host, waits for them, and stops them when this process is stopped.

torchrun's agent starts them. A single rank that nobody restarts needs no agent, and the training takes two
seconds less without it.
"""

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
from temper.engine.distributed.rank_failures import judge
from temper.engine.distributed.ranks import PARENT
from temper.engine.distributed.shutdown import LOST, SIGNALS, STOPPED, TOO_LARGE
from temper.engine.params import HostsParams
from temper.make_command import make_command

LARGE_PAGES = "glibc.malloc.hugetlb=1"
"""Value for GLIBC_TUNABLES: memory is allocated in pages of 2 MB if the kernel offers them on request. Steps
on CPUs are 3 to 19 % faster."""
SHORT_SPIN = "20000"
"""Value for GOMP_SPINCOUNT. Threads that wait for each other by spinning lose whole time slices when another
process needs a core: with one busy process beside them on two cores, they are 10 to 25 times slower. Short
spinning costs 7 % if no other process runs."""
_AGENT = "temper.engine.distributed.elastic_agent"
_GRACE_S = 9.0
"""Seconds between asking the agent to stop and killing it. Its ranks take about half of that at most, and end
with the agent in any case."""
_QUIET = ("TORCH_CPP_LOG_LEVEL", "ERROR")
"""Torch reports every broken connection; the ranks and the agent report the ones that matter."""


def start_ranks(
    stage: str,
    project: Path,
    num: int,
    *,
    hosts: HostsParams = ALONE,
    address: str = f"{LOOPBACK}:0",
    made_of: Mapping[str, str] = MappingProxyType({}),
) -> int:
    """Run a stage as the ranks of one training; restart with smaller parts of a batch when memory runs out.

    Args:
        stage: Name of the stage.
        project: Folder of the project.
        num: Number of ranks on this host.
        hosts: How many hosts take part, and when one counts as lost; this host is the first.
        address: Address of this host, as the others reach it, with or without a port.
        made_of: Digests of everything that must be the same on every host.

    Returns:
        Exit status of the training: 0 if it was finished, 143 if it was stopped by a signal.
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
    """Take part in the trainings of the first host, one after the other, until none starts for some time.

    A host that loses the connection to the first host tries to come back.

    Args:
        project: Folder of the project.
        address: Address of the first host.
        prepare: Returns, for a stage, the number of ranks on this host, and the digests of everything that
            must be the same on every host.
        wait_s: Seconds to wait for a training.

    Returns:
        0 after all trainings in which this host took part, otherwise the status of the one that failed.

    Raises:
        ValueError: If no training starts in time, or something differs on this host.
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
                f"HOST={address}: no training started at {where}:{port} within {wait_s:.0f} s; run "
                f"`{make_command(f'pipeline HOST={address}')}` there, and this command again; "
                "a firewall may block the port"
            )
        num, made_of = prepare(offer.stage)
        if reason := explain_difference(made_of, offer, where):
            raise ValueError(reason)
        print(f"{offer.stage}: taking part with {num} ranks", file=sys.stderr, flush=True)
        code = _wait(Order(_rank(offer.stage, project), num, False, where, port, offer))
        if code == 0:
            done.add(offer.run)
        elif code not in (LOST, TOO_LARGE):
            return code


def _rank(stage: str, project: Path) -> tuple[str, ...]:
    return ("-m", "temper", "stage", stage, "--project", str(project))


def rank_environment(num_ranks: int) -> dict[str, str]:
    """Return the environment variables of a rank; libraries read them once, when they are loaded.

    Args:
        num_ranks: Number of ranks that share this machine's cores.
    """
    return {
        "OMP_NUM_THREADS": str(max(1, len(os.sched_getaffinity(0)) // num_ranks)),
        "GLIBC_TUNABLES": os.environ.get("GLIBC_TUNABLES", LARGE_PAGES),
        "GOMP_SPINCOUNT": SHORT_SPIN,
    }


def _alone(order: Order) -> dict[str, str]:
    """Return the variables that torchrun's agent gives to the only rank of a training."""
    return {"TORCHELASTIC_RUN_ID": order.offer.run, "LOCAL_RANK": "0", "RANK": "0", "WORLD_SIZE": "1"}


def _wait(order: Order) -> int:
    """Run an agent, or a single rank; return its exit status."""
    environment = {
        **os.environ,
        **rank_environment(order.num_ranks),
        "LOGLEVEL": "CRITICAL",
        _QUIET[0]: _QUIET[1],
        PARENT: str(os.getpid()),
    }
    asked: list[float] = []

    def forward(number: int, frame: FrameType | None) -> None:
        # Only once: a second signal would disturb the agent while it waits for its ranks.
        if not asked:
            asked.append(time.monotonic())
            process.send_signal(signal.SIGTERM)

    command = ["-u", *order.command] if order.alone else ["-m", _AGENT, order.encode()]
    process = subprocess.Popen(
        [sys.executable, *command], env={**environment, **(_alone(order) if order.alone else {})}
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
            if order.alone and code:
                code, text = judge({0: code})
                print(text, end="\n" if text else "", file=sys.stderr)
            return code if code >= 0 else 128 - code
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
