"""Run a command and show its output live in the terminal, without the lines that are not needed.

If this process has a terminal, the child gets its own terminal, so that progress bars remain bars. The child
gets its own session, so that Ctrl-C reaches it only through this process. The child and everything it started
are ended when this process is interrupted, and when the child was killed and left children behind. If this
process is killed, the kernel ends them. The last lines of output are stored, since the message of a failure
is in them.
"""

import codecs
import fcntl
import itertools
import os
import pty
import re
import selectors
import subprocess
import sys
import termios
import time
import tty
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

import psutil

from temper import parent_death

GRACE_S = 8.0
"""Seconds between asking processes to end and killing them, in which training writes a last checkpoint."""
_DRAIN_S = 1.0
_MARK = "TEMPER_COMMAND"
"""Variable of a command and everything it starts; it identifies them even if their parents have ended."""
_count = itertools.count(1)
_KEPT_LINES = 400
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Ended:
    """The exit status and the last output of a command."""

    code: int
    out: tuple[str, ...]
    """Last complete lines of standard output, including hidden ones, without colours."""
    err: tuple[str, ...]
    """Last complete lines of standard error, likewise."""


def run(command: list[str], *, cwd: Path, env: Mapping[str, str], hide: tuple[str, ...] = ()) -> Ended:
    """Run a command to its end and show its output as it comes.

    Args:
        command: Program and arguments.
        cwd: Working directory.
        env: Complete environment.
        hide: Beginnings of lines that are stored but not shown.

    Raises:
        KeyboardInterrupt: If this process is interrupted; the whole process tree is ended first. The same is
            true of any other exception.
    """
    out_read, out_write = os.pipe()
    err_read, err_write = _open_channel(sys.stderr)
    relays = {out_read: _Relay(sys.stdout, hide), err_read: _Relay(sys.stderr, hide)}
    mark = f"{os.getpid()}.{next(_count)}"
    try:
        process = subprocess.Popen(
            tied(command),
            cwd=cwd,
            env={**env, _MARK: mark},
            stdin=subprocess.DEVNULL,
            stdout=out_write,
            stderr=err_write,
            start_new_session=True,
        )
    finally:
        os.close(out_write)
        os.close(err_write)
    try:
        _pump(process, relays)
        code = process.wait()
    finally:
        end(marked(_MARK, mark))
        process.wait()
        _pump(process, relays)  # output of the shutdown, such as the step at which training stopped
        for relay in relays.values():
            relay.close()
        os.close(out_read)
        os.close(err_read)
    return Ended(code, tuple(relays[out_read].lines), tuple(relays[err_read].lines))


def tied(command: list[str]) -> list[str]:
    """Wrap a command so that the kernel ends it when this process ends, for whatever reason."""
    return [sys.executable, "-I", "-S", str(parent_death.__file__), str(os.getpid()), *command]


def marked(name: str, value: str) -> list[psutil.Process]:
    """Return all other live processes that have a variable in their environment, whatever their parent is."""
    return [
        process
        for process in psutil.process_iter()
        if process.pid != os.getpid() and _carries(process, name, value)
    ]


def _carries(process: psutil.Process, name: str, value: str) -> bool:
    try:
        return process.environ().get(name) == value and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def end_tree(pid: int, grace_s: float = GRACE_S) -> None:
    """End a process and everything it started."""
    try:
        root = psutil.Process(pid)
        end([root, *root.children(recursive=True)], grace_s)
    except psutil.NoSuchProcess:
        return


def end(processes: list[psutil.Process], grace_s: float = GRACE_S) -> None:
    """End processes: terminate them, wait, and kill those that are left."""
    for process in processes:
        try:
            process.terminate()
        except psutil.NoSuchProcess:
            continue
    try:
        _, alive = psutil.wait_procs(processes, timeout=grace_s)
    except KeyboardInterrupt:
        alive = processes
    for process in alive:
        try:
            process.kill()
        except psutil.NoSuchProcess:
            continue


def _open_channel(stream: TextIO) -> tuple[int, int]:
    """Open a pipe or, if the stream is a terminal, another terminal of its size: (read end, write end)."""
    if not stream.isatty():
        return os.pipe()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, b"\0" * 8))
    tty.setraw(theirs)  # our own terminal adds the carriage returns
    return ours, theirs


def _pump(process: subprocess.Popen[bytes], relays: "Mapping[int, _Relay]") -> None:
    """Pass output on until the command has ended.

    Processes that the command left behind may hold the pipes open and write to them for ever.
    """
    until: float | None = None
    with selectors.DefaultSelector() as selector:
        for source in relays:
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(timeout=0.2)
            if until is None and process.poll() is not None:
                until = time.monotonic() + _DRAIN_S
            if until is not None and (not ready or time.monotonic() > until):
                return
            for key, _ in ready:
                try:
                    data = os.read(key.fd, 1 << 16)
                except OSError:  # raised by a terminal whose other end was closed
                    data = b""
                if data:
                    relays[key.fd].feed(data)
                else:
                    selector.unregister(key.fd)


class _Relay:
    """Passes text on piece by piece; holds a line back only while it may still turn out to be hidden."""

    def __init__(self, sink: TextIO, hide: tuple[str, ...]) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._sink, self._hide = sink, hide
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line, self._shown, self._closed = "", 0, False

    def feed(self, data: bytes) -> None:
        """Process the next bytes."""
        for piece in re.split(r"(?<=[\r\n])", self._decoder.decode(data)):
            self._line += piece
            clean = _ESCAPES.sub("", self._line).strip("\r\n")
            whole = self._line.endswith(("\n", "\r"))
            # Hidden lines have blank lines around them, which are hidden, too.
            hidden = bool(self._hide) and (clean.startswith(self._hide) or (whole and not clean.strip()))
            if not hidden and (whole or not any(start.startswith(clean) for start in self._hide)):
                self._show(self._line[self._shown :])
                self._shown = len(self._line)
            if whole:
                if self._line.endswith("\n"):
                    self.lines.append(clean)
                self._line, self._shown = "", 0

    def _show(self, text: str) -> None:
        if self._closed:
            return
        try:
            self._sink.write(text)
            self._sink.flush()
        except OSError:
            # The terminal was closed, or a reader such as `| head` has ended. The work continues silently.
            self._closed = True

    def close(self) -> None:
        """Show the text that is still held back."""
        self.feed(b"\n" if self._line and not self._shown else b"")
