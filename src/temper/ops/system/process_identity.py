"""The identity of the process that owns a run.

It is stored with the run's record and shows whether the owner is still alive.

The system reuses process ids. The process id, the machine's boot and the kernel's tick at which the process
started are unique together. Ticks count from the boot, so setting the clock changes nothing.
"""

import os
import platform
import socket
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Owner:
    """A process on a machine."""

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
        """Parse the text that `str` made of an owner; None if the text has another form."""
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
        """Whether the process has certainly ended.

        A process on another machine cannot be checked from here, so it counts as alive.
        """
        if self.host != socket.gethostname():
            return False
        return self.boot != _boot() or _started(self.pid) != self.started


def _boot() -> str:
    """Return the id of this boot of the machine."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return platform.node() or "?"


def _started(pid: int) -> str | None:
    """Return when a process started, as the system reports it; None if there is no such process."""
    try:
        # Fields after the name in parentheses, which may contain spaces. The start is field 22 of proc(5), in
        # ticks since boot.
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
