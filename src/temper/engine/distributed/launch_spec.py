"""The offer of a first host to the others, and the order of a process to its agent.

This module does not import torch, so that the process that starts the agent does not wait for the import.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from temper.engine.params import HostsParams

PORT = 29400
"""torchrun's default port."""
LOOPBACK = "127.0.0.1"
ALONE = HostsParams(most=1, restarts=0)
"""One host, whose training ends when it loses a rank."""


@dataclass(frozen=True)
class Offer:
    """A training that a first host offers to the others."""

    run: str
    """Name of the training; it is different each time a training is started."""
    stage: str
    made_of: Mapping[str, str]
    """Digests of everything that must be the same on every host."""
    hosts: HostsParams

    @classmethod
    def of(cls, found: dict[str, Any]) -> "Offer":
        """Return an offer from JSON values."""
        return cls(**{**found, "hosts": HostsParams(**found["hosts"])})


@dataclass(frozen=True)
class Order:
    """Instructions for an agent, from the process that starts it."""

    command: tuple[str, ...]
    """Command of a rank: arguments of the Python interpreter."""
    num_ranks: int
    """Number of ranks on this host."""
    first: bool
    """Whether this host stores the checkpoints and writes the results."""
    address: str
    """Address of the first host."""
    port: int
    """Port of the store on the first host; 0 chooses a free port."""
    offer: Offer

    @property
    def alone(self) -> bool:
        """Whether there is a single rank on a single host, and nobody restarts it."""
        hosts = self.offer.hosts
        return self.num_ranks == 1 and hosts.most == 1 and hosts.restarts == 0

    def encode(self) -> str:
        """Return the order as one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Order":
        """Return an order from such an argument."""
        found = json.loads(text)
        return cls(**{**found, "offer": Offer.of(found["offer"])})


def parse_address(text: str) -> tuple[str, int]:
    """Return the address and port of `address` or `address:port`.

    Raises:
        ValueError: If the text is neither.

    Example:
        >>> parse_address("10.0.0.1"), parse_address("node7:4000"), parse_address("[fd00::1]")
        (('10.0.0.1', 29400), ('node7', 4000), ('fd00::1', 29400))
    """
    try:
        parts = urlsplit(f"//{text}")
        host, port = parts.hostname, PORT if parts.port is None else parts.port
    except ValueError:
        host = None
    if not host or parts.path or parts.username is not None:
        raise ValueError(
            f"HOST={text!r}: this is not an address; write the address of the first host, e.g. 10.0.0.1 or "
            f"10.0.0.1:{PORT}"
        )
    return host, port


def explain_difference(mine: Mapping[str, str], offer: Offer, address: str) -> str | None:
    """Return why this host cannot take part in a training, as a paragraph; None if it can.

    Args:
        mine: Digests of this host, with the same names as in the offer.
        offer: Offer of the first host.
        address: Address of the first host.
    """
    differ = [name for name in offer.made_of if mine.get(name) != offer.made_of[name]]
    if not differ:
        return None
    shown = [
        f"{name} ({mine.get(name, 'missing')[:12]} here, {offer.made_of[name][:12]} there)" for name in differ
    ]
    return (
        f"this host cannot take part in {offer.stage} of {address}, because the hosts differ in "
        f"{', '.join(shown)}; both need the same commit, params.yaml and artifacts: share the project's "
        "folder, or copy `artifacts` from there"
    )
