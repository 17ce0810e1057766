"""Whose run is it, and is that process still alive? What is written onto records of runs, so that a dead one is told from a live one.

A process id alone comes back after a while; with the machine's boot and the kernel's tick at which the process started it
does not. Ticks count from the boot, so a clock that is set changes nothing.
"""

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Owner:
    """A process of some machine."""

    host: str
    boot: str
    pid: int
    started: str

    @classmethod
    def me(cls) -> "Owner":
        """This process."""
        return cls(socket.gethostname(), _boot(), os.getpid(), _started(os.getpid()) or "?")

    @classmethod
    def read(cls, text: str | None) -> "Owner | None":
        """What `str` made of an owner; None if it is no such text."""
        parts = (text or "").split(" ")
        return (
            cls(parts[0], parts[1], int(parts[2]), parts[3])
            if len(parts) == 4 and parts[2].isdigit()
            else None
        )

    def __str__(self) -> str:
        return f"{self.host} {self.boot} {self.pid} {self.started}"

    @property
    def dead(self) -> bool:
        """Whether it has surely ended; of another machine's process nobody here can say, so it counts as alive."""
        if self.host != socket.gethostname():
            return False
        return self.boot != _boot() or _started(self.pid) != self.started


def _boot() -> str:
    """What names this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node() or "?"


def _started(pid: int) -> str | None:
    """When a process started, as its system says it; None if there is none."""
    try:
        # After the name in parentheses, which may hold spaces; field 22 of proc(5), in ticks since boot.
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        )
        return None if fields[0] == "Z" else fields[19]
    except FileNotFoundError:
        if Path("/proc/self/stat").exists():
            return None
    try:
        return repr(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None
