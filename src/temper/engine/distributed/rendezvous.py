"""Where the processes of one training meet: a store on the first host, which all agents and ranks reach.

torch's store listens on every interface of a host, unless it is given a socket that listens already: here it is bound to the
one address the user names, or to this machine's loopback. What lies in it is not encrypted, and torch keeps the state of its
rendezvous there as a pickle: whoever reaches the port can run code on the hosts, so it belongs into a network of theirs alone.
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
    """The store of a training, hosted by this process, listening on one address only.

    Raises:
        ValueError: If this machine has no such address, or the port is taken.
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
            f"cannot listen on {address}:{port}: {error.strerror or error}; HOST must be an address of this machine "
            "(`ip address` lists them) and its port free: HOST=address:port names another"
        ) from error
    wait = timedelta(seconds=timeout_s)
    return TCPStore(address, port, None, True, wait, wait_for_workers=False, master_listen_fd=descriptor)


def reach_store(address: str, port: int, timeout_s: float) -> TCPStore:
    """The store another process hosts."""
    return TCPStore(address, port, None, False, timedelta(seconds=timeout_s), wait_for_workers=False)


def give_up_after(store: TCPStore, timeout_s: float) -> None:
    """Have the kernel end this process's connection to a store that is out of reach.

    It would try again for a quarter of an hour, and torch waits for it, whatever its own timeout.
    """
    if not hasattr(socket, "TCP_USER_TIMEOUT"):
        return  # not Linux
    for connection in psutil.Process().net_connections("tcp"):
        if connection.raddr and connection.raddr.port == store.port:
            with socket.socket(fileno=os.dup(connection.fd)) as same:
                same.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(timeout_s * 1000))


def await_offer(address: str, port: int, *, wait_s: float, done: set[str]) -> Offer | None:
    """Wait until the first host starts a training; None if there is none in time.

    Args:
        address: Of the first host.
        port: Of its store.
        wait_s: How long to wait.
        done: Runs that have ended already: their store may linger for a moment.
    """
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        try:
            # A plain connection first: torch's store complains aloud while there is nobody.
            socket.create_connection((address, port), timeout=_CONNECT_S).close()
            offer = Offer.of(json.loads(reach_store(address, port, _CONNECT_S).get(_OFFER)))
        except (OSError, DistError):
            offer = None
        if offer is not None and offer.run not in done:
            return offer
        time.sleep(_LOOK_EVERY_S)
    return None


def offer_training(store: TCPStore, offer: Offer) -> None:
    """On the first host: tell the others what to take part in."""
    store.set(_OFFER, json.dumps(asdict(offer)))


def gather_hosts(store: TCPStore, *, most: int, wait_s: float) -> int:
    """On the first host: wait until the others are there, or the time is up, and give the sign; how many there are."""
    end = time.monotonic() + wait_s
    while (found := 1 + store.add(_ARRIVED, 0)) < most and time.monotonic() < end:
        time.sleep(_LOOK_EVERY_S)
    store.set(_GO, "")
    return found


def arrive(store: TCPStore, *, wait_s: float) -> None:
    """On another host: be counted, and wait for the sign; it was given already if a training is going on."""
    store.add(_ARRIVED, 1)
    store.wait([_GO], timedelta(seconds=wait_s))


def own_address(address: str, port: int) -> str:
    """The address from which this host reaches another one."""
    family = socket.getaddrinfo(address, port, type=socket.SOCK_DGRAM)[0][0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect((address, port))  # sends nothing
        return str(probe.getsockname()[0])


def interface_of(address: str) -> str | None:
    """The network interface that has an address; None if none is found."""
    for name, entries in psutil.net_if_addrs().items():
        if any(entry.address.split("%")[0] == address for entry in entries):
            return name
    return None


def use_interface_of(address: str, variables: tuple[str, ...]) -> None:
    """Have this process's ranks exchange their gradients over the interface that has an address; what the user set stays."""
    if name := interface_of(address):
        for variable in variables:
            os.environ.setdefault(variable, name)
