"""The agent: starts the ranks of one host with torchrun's elastic agent; its exit status names the cause.

A rank prints its own error, and the agent's traceback would add nothing. The agent prints an error only for a
rank that had no time to print one. If several hosts train together, the agent restarts the ranks from the
last checkpoint when a rank or a whole host is lost, and when a host joins. Hosts are monitored by the
heartbeats of their agents, not by the duration of a step: a slow step does not count as a loss. Global rank
0, which reads and writes all files, always runs on the first host.
"""

import json
import logging
import os
import sys
import uuid
from dataclasses import replace
from typing import Any

from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]
from torch.distributed.elastic.agent.server.api import RunResult, WorkerGroup, WorkerSpec, WorkerState
from torch.distributed.elastic.agent.server.local_elastic_agent import LocalElasticAgent
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
from torch.distributed.elastic.rendezvous import RendezvousError, RendezvousParameters, RendezvousTimeoutError
from torch.distributed.elastic.rendezvous.c10d_rendezvous_backend import C10dRendezvousBackend
from torch.distributed.elastic.rendezvous.dynamic_rendezvous import DynamicRendezvousHandler, create_handler

from temper.engine.distributed import rendezvous
from temper.engine.distributed.launch_spec import Order
from temper.engine.distributed.rank_failures import judge, restartable
from temper.engine.distributed.ranks import MEETING, PARENT
from temper.engine.distributed.shutdown import LOST, STOPPED, TOO_LARGE
from temper.parent_death import end_with_parent

_LAST_CALL_S = 10
"""Seconds that agents wait for more hosts when there are enough to continue. Ranks that are asked to stop
take at most half of that."""
_BEATS = 3
"""Number of missed heartbeats after which a host counts as lost."""
_ROUND = "temper/round"


class Agent(LocalElasticAgent):
    """torchrun's agent, which restarts ranks where a restart can help, and detects lost hosts."""

    def __init__(self, order: Order, handler: DynamicRendezvousHandler) -> None:
        spec = WorkerSpec(
            role="rank",
            local_world_size=order.num_ranks,
            rdzv_handler=handler,
            entrypoint=sys.executable,
            args=("-u", *order.command),
            max_restarts=order.offer.hosts.restarts,
        )
        # No log folder: ranks write to the terminal, and torchrun's folder would remain among the temporary
        # files after a kill.
        super().__init__(spec, DefaultLogsSpecs(os.devnull), exit_barrier_timeout=order.offer.hosts.lost_s)
        self._order, self._handler = order, handler

    def _rendezvous(self, worker_group: WorkerGroup) -> None:
        """Meet the other agents and name the round, so that ranks of different rounds do not meet."""
        while True:
            super()._rendezvous(worker_group)
            assert worker_group.store is not None
            if worker_group.group_rank == 0:
                # In a round without the first host, no rank can read checkpoints, so it is left at once.
                worker_group.store.set(_ROUND, uuid.uuid4().hex if self._order.first else "")
            if name := worker_group.store.get(_ROUND).decode():
                break
        os.environ[MEETING] = json.dumps([self._order.address, self._order.port, name])
        if self._order.first and self._order.offer.hosts.most > 1:
            found, most = worker_group.group_world_size, self._order.offer.hosts.most
            self._report(f"hosts: {found} of {most}, ranks: {worker_group.workers[0].world_size}")

    def _monitor_workers(self, worker_group: WorkerGroup) -> RunResult:
        result: RunResult = super()._monitor_workers(worker_group)
        why = ""
        if result.state == WorkerState.FAILED:
            codes = {rank: failure.exitcode for rank, failure in result.failures.items()}
            if not restartable(codes):
                self._remaining_restarts = 0
            why = "memory ran out" if TOO_LARGE in codes.values() else "ranks were lost"
        elif result.state == WorkerState.HEALTHY and self._order.offer.hosts.most > 1:
            self._handler.num_nodes_waiting()  # updates the state of the other hosts
            present = len(self._handler._state_holder.state.participants)
            if present < (worker_group.group_world_size or 0):
                result, why = RunResult(state=WorkerState.UNHEALTHY), "a host was lost"
        if why and self._remaining_restarts and self._order.first:
            self._report(
                f"{why}; continuing from the last checkpoint ({self._remaining_restarts} restarts left)"
            )
        return result

    def _report(self, text: str) -> None:
        print(f"{self._order.offer.stage}: {text}", file=sys.stderr, flush=True)


def run(order: Order) -> int:
    """Start the ranks of this host, wait for them, and return the exit status.

    Raises:
        ValueError: If the first host cannot listen at its address, or too few hosts are available.
    """
    hosts = order.offer.hosts
    try:
        store, order = _meet(order)
        result = Agent(order, _handler(store, order)).run()
    except SignalException:
        return STOPPED
    except RendezvousTimeoutError as error:
        if not order.first:
            return LOST
        raise ValueError(
            f"hosts.least = {hosts.least}: fewer hosts were available for hosts.wait_s = {hosts.wait_s} s; "
            "start the missing hosts, and run the same command again to continue from the last checkpoint"
        ) from error
    except (RendezvousError, DistError):
        if order.first:
            raise
        return LOST  # the first host is unreachable, or has ended
    if result.state == WorkerState.SUCCEEDED:
        return 0
    status, text = judge({rank: failure.exitcode for rank, failure in result.failures.items()})
    if text:
        print(text, file=sys.stderr)
    return status


def _meet(order: Order) -> tuple[TCPStore, Order]:
    """Open the store, or connect to it, and wait until the training starts.

    Return the store, and the order with the port of the store.
    """
    hosts = order.offer.hosts
    if not order.first:
        store = rendezvous.reach_store(order.address, order.port, hosts.lost_s)
        rendezvous.give_up_after(store, hosts.lost_s)
        rendezvous.arrive(store, wait_s=hosts.wait_s)
        return store, order
    store = rendezvous.open_store(order.address, order.port, hosts.lost_s)
    if hosts.most > 1:
        where = f"HOST={order.address}:{order.port}"
        print(
            f"{order.offer.stage}: waiting up to {hosts.wait_s} s for {hosts.most - 1} more hosts; "
            f"run `make join {where}` on each",
            file=sys.stderr,
            flush=True,
        )
        rendezvous.offer_training(store, order.offer)
        found = rendezvous.gather_hosts(store, most=hosts.most, wait_s=hosts.wait_s)
        if found < hosts.least:
            raise ValueError(
                f"hosts.least = {hosts.least}: {found} hosts were available after hosts.wait_s = "
                f"{hosts.wait_s} s; run the same command again here, and `make join {where}` on the others"
            )
    return store, replace(order, port=store.port)


def _handler(store: TCPStore, order: Order) -> DynamicRendezvousHandler:
    """Return torchrun's rendezvous over our store.

    It sorts hosts by name, so the name of the first host is chosen to come first.
    """
    hosts, alone = order.offer.hosts, order.offer.hosts.most == 1
    own = order.address if order.first else rendezvous.own_address(order.address, order.port)
    # Within a host, NCCL chooses its own path; the loopback would only be slower.
    rendezvous.use_interface_of(
        own, ("GLOO_SOCKET_IFNAME",) if alone else ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME")
    )
    # Ranks meet at our store, so torchrun must not open another one.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    values: dict[str, Any] = {
        "join_timeout": hosts.wait_s,
        "last_call_timeout": _LAST_CALL_S,
        "close_timeout": _LAST_CALL_S,
        "keep_alive_interval": max(1, hosts.lost_s // _BEATS),
        "keep_alive_max_attempt": _BEATS,
    }
    name = f"{0 if order.first else 1} {own}"
    params = RendezvousParameters(
        "c10d", f"{order.address}:{order.port}", order.offer.run, hosts.least, hosts.most, name, **values
    )
    return create_handler(store, C10dRendezvousBackend(store, order.offer.run), params)


if __name__ == "__main__":
    if parent := os.environ.get(PARENT):
        end_with_parent(int(parent))
    os.environ[PARENT] = str(os.getpid())
    logging.disable(logging.ERROR)
    try:
        code = run(Order.decode(sys.argv[1]))
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    sys.exit(code)
