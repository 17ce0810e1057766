"""Two hosts on one machine: network namespaces with a virtual cable between them, which can be cut."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

FIRST, SECOND = "10.213.7.1", "10.213.7.2"


def why_not() -> str:
    """Return why this machine cannot create network namespaces; empty if it can."""
    if not shutil.which("ip"):
        return "needs `ip` (iproute2)"
    if os.geteuid():
        return "needs root, for network namespaces"
    probe = subprocess.run(
        ["ip", "netns", "add", _name("probe")], capture_output=True, text=True, check=False
    )
    if probe.returncode:
        return f"makes no network namespaces: {probe.stderr.strip()}"
    _ip("netns", "del", _name("probe"))
    return ""


class Hosts:
    """The namespaces of two hosts."""

    def __init__(self) -> None:
        self.first, self.second = _name("a"), _name("b")

    def inside(self, host: str) -> list[str]:
        """Return the prefix that runs a command on a host; the process is that of the command itself."""
        return ["ip", "netns", "exec", host]

    def cut(self) -> None:
        """Cut the cable: packets are lost without any error."""
        _ip("-n", self.second, "link", "set", "eth0", "down")

    def reconnect(self) -> None:
        """Restore the cable."""
        _ip("-n", self.second, "link", "set", "eth0", "up")


@contextmanager
def two_hosts() -> Iterator[Hosts]:
    """Create two namespaces that reach only each other, while the body runs."""
    hosts = Hosts()
    try:
        for host in (hosts.first, hosts.second):
            _ip("netns", "add", host)
            _ip("-n", host, "link", "set", "lo", "up")
        _ip(
            "-n",
            hosts.first,
            "link",
            "add",
            "eth0",
            "type",
            "veth",
            "peer",
            "name",
            "eth0",
            "netns",
            hosts.second,
        )
        for host, address in ((hosts.first, FIRST), (hosts.second, SECOND)):
            _ip("-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            _ip("-n", host, "link", "set", "eth0", "up")
        yield hosts
    finally:
        for host in (hosts.first, hosts.second):
            subprocess.run(["ip", "netns", "del", host], capture_output=True, check=False)


def _name(part: str) -> str:
    return f"temper-{os.getpid()}-{part}"


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True)
