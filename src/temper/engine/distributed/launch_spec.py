"""What a first host offers to the others, and what an agent is told; without torch, which the door does not wait for."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from temper.engine.params import HostsParams

PORT = 29400
"""torchrun's own default."""
LOOPBACK = "127.0.0.1"
ALONE = HostsParams(most=1, restarts=0)
"""One host, whose training ends when it loses a rank."""


@dataclass(frozen=True)
class Offer:
    """What a first host has to share."""

    run: str
    """Its name; another one each time a training is started."""
    stage: str
    made_of: Mapping[str, str]
    """Digests of what must be the same on every host."""
    hosts: HostsParams

    @classmethod
    def of(cls, found: dict[str, Any]) -> "Offer":
        """Back from JSON."""
        return cls(**{**found, "hosts": HostsParams(**found["hosts"])})


@dataclass(frozen=True)
class Order:
    """What an agent is told by the process that starts it."""

    command: tuple[str, ...]
    """Of a rank: arguments of the Python interpreter."""
    num_ranks: int
    """On this host."""
    first: bool
    """Whether this host keeps the checkpoints and writes what comes out."""
    address: str
    """Of the first host."""
    port: int
    """Of the store there; 0 takes a free one."""
    offer: Offer

    def encode(self) -> str:
        """As one argument of a command line."""
        return json.dumps(asdict(self))

    @classmethod
    def decode(cls, text: str) -> "Order":
        """Back again."""
        found = json.loads(text)
        return cls(**{**found, "offer": Offer.of(found["offer"])})


def parse_address(text: str) -> tuple[str, int]:
    """Address and port of `address` or `address:port`.

    Raises:
        ValueError: If it is neither.

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
            f"HOST={text!r} is no address; write the first host's, e.g. 10.0.0.1 or 10.0.0.1:{PORT}"
        )
    return host, port


def explain_difference(mine: Mapping[str, str], offer: Offer, address: str) -> str | None:
    """Why this host cannot take part, as a paragraph; None if it can.

    Args:
        mine: Digests as in the offer, of what lies here.
        offer: The first host's.
        address: Where it is.
    """
    differ = [name for name in offer.made_of if mine.get(name) != offer.made_of[name]]
    if not differ:
        return None
    shown = [
        f"{name} ({mine.get(name, 'missing')[:12]} here, {offer.made_of[name][:12]} there)" for name in differ
    ]
    return (
        f"this host cannot take part in {offer.stage} of {address}: not the same are {', '.join(shown)}; both need the same commit "
        "and params.yaml, and the same artifacts: share the project's folder, or copy `artifacts` from there"
    )
