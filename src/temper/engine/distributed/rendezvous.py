"""Where the processes of one training meet: a store on the first host, which all agents and ranks connect to.

torch's store listens on every interface of a host, unless it gets a socket that is already listening. Here
the socket is bound to the one address that the user names, or to this machine's loopback. The contents of the
store are not encrypted, and torch keeps the state of its rendezvous there as a pickle. Anyone who can reach
the port can therefore run code on the hosts, so the port must be reachable only in a network that no others
share.
"""

import json
import os
import socket
import time
from dataclasses import asdict
from datetime import timedelta

import psutil
from torch.distributed import DistError, TCPStore  # type: ignore[attr-defined]

from temper.engine.distributed.launch_spec import Offer

_OFFER, _ARRIVED, _GO = "temper/offer", "temper/arrived", "temper/go"
_LOOK_EVERY_S = 1.0
_CONNECT_S = 3.0


def open_store(address: str, port: int, timeout_s: float) -> TCPStore:
    """Open the store of a training in this process; it listens on one address only.

    Raises:
        ValueError: If this machine does not have the address, or the port is in use.
    """
    try:
        family, kind, _, _, where = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(where)
            listener.listen(socket.SOMAXCONN)
            port, descriptor = listener.getsockname()[1], listener.detach()
    except OSError as error:
        raise ValueError(
            f"cannot listen on {address}:{port}: {error.strerror or error}; HOST must be an address of this "
            "machine (`ip address` lists them), and its port must be free; "
            "HOST=address:port chooses another port"
        ) from error
    wait = timedelta(seconds=timeout_s)
    return TCPStore(address, port, None, True, wait, wait_for_workers=False, master_listen_fd=descriptor)


def reach_store(address: str, port: int, timeout_s: float) -> TCPStore:
    """Connect to the store that another process hosts."""
    return TCPStore(address, port, None, False, timedelta(seconds=timeout_s), wait_for_workers=False)


def give_up_after(store: TCPStore, timeout_s: float) -> None:
    """Make the kernel close this process's connection to a store that is unreachable.

    Otherwise the kernel would retry for a quarter of an hour, and torch would wait for it, whatever its own
    timeout.
    """
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return  # not Linux
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and connection.raddr.port == store.port:
            with socket.socket(fileno=os.dup(connection.fd)) as same:
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))


def await_offer(address: str, port: int, *, wait_s: float, done: set[str]) -> Offer | None:
    """Wait until the first host starts a training; return None if none starts in time.

    Args:
        address: Address of the first host.
        port: Port of its store.
        wait_s: Seconds to wait.
        done: Runs that have already ended; their store may still exist for a moment.
    """
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        try:
            # A plain connection first: torch's store prints errors while no store is listening.
            socket.create_connection((address, port), timeout=_CONNECT_S).close()
            offer = Offer.of(json.loads(reach_store(address, port, _CONNECT_S).get(_OFFER)))
        except (OSError, DistError):
            offer = None
        if offer is not None and offer.run not in done:
            return offer
        time.sleep(_LOOK_EVERY_S)
    return None


def offer_training(store: TCPStore, offer: Offer) -> None:
    """On the first host: publish the training for the other hosts."""
    store.set(_OFFER, json.dumps(asdict(offer)))


def gather_hosts(store: TCPStore, *, most: int, wait_s: float) -> int:
    """On the first host: wait for the other hosts, or until the time is up, and then give the start signal.

    Return the number of hosts that are available.
    """
    end = time.monotonic() + wait_s
    while (found := 1 + store.add(_ARRIVED, 0)) < most and time.monotonic() < end:
        time.sleep(_LOOK_EVERY_S)
    store.set(_GO, "")
    return found


def arrive(store: TCPStore, *, wait_s: float) -> None:
    """On another host: register, and wait for the start signal.

    If a training is already running, the signal was given before.
    """
    store.add(_ARRIVED, 1)
    store.wait([_GO], timedelta(seconds=wait_s))


def own_address(address: str, port: int) -> str:
    """Return the address from which this host reaches another one."""
    family = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0][0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, port))  # sends nothing
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    """Return the network interface that has an address; None if there is none."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.split("%")[0] == address for entry in entries):
            return name
    return None


def use_interface_of(address: str, variables: tuple[str, ...]) -> None:
    """Make this process's ranks exchange their gradients over the interface that has an address.

    Variables that the user set are left unchanged.
    """
    if name := interface_of(address):
        for variable in variables:
            os.environ.setdefault(variable, name)
