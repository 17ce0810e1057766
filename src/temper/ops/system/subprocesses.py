"""Run a command and let the terminal see it live, without the lines nobody needs.

The child gets a terminal of its own where we have one, so that its progress bars stay bars, and a session of its own, so
that Ctrl-C reaches it through us. It is ended with everything it started: when we are interrupted, when it was killed and left
children behind, and by the kernel when we are killed. What passes by is kept: the last lines of a failure are its message.
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
"""Between asking processes to end and ending them; training writes a last checkpoint meanwhile."""
_LAST_WORDS_S = 1.0
_MARK = "TEMPER_COMMAND"
"""Variable that a command and everything it starts carry: how they are found once their parents are gone."""
_count = itertools.count(1)
_KEPT_LINES = 400
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    out: tuple[str, ...]
    """Last complete lines of its standard output, the hidden ones included, without colours."""
    err: tuple[str, ...]


def run(command: list[str], *, cwd: Path, env: Mapping[str, str], hide: tuple[str, ...] = ()) -> Ended:
    """Run a command to its end, passing on what it says as it says it.

    Args:
        command: Program and arguments.
        cwd: Where it runs.
        env: Its whole environment.
        hide: Lines starting so are kept, but not shown.

    Raises:
        KeyboardInterrupt: And whatever else interrupts this process, after the whole process tree was ended.
    """
    out_read, out_write = os.pipe()
    err_read, err_write = _like(sys.stderr)
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
        _pump(process, relays)  # what was said meanwhile: at which step training stopped
        for relay in relays.values():
            relay.close()
        os.close(out_read)
        os.close(err_read)
    return Ended(code, tuple(relays[out_read].lines), tuple(relays[err_read].lines))


def tied(command: list[str]) -> list[str]:
    """The command, run so that the kernel ends it when this process ends, however that happens."""
    return [sys.executable, "-I", "-S", str(parent_death.__file__), str(os.getpid()), *command]


def marked(name: str, value: str) -> list[psutil.Process]:
    """Every living process but this one that carries a variable in its environment, whoever its parent is now."""
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
    """End processes: ask, wait, insist."""
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


def _like(stream: TextIO) -> tuple[int, int]:
    """A pipe, or, where the stream is a terminal, a terminal of the same size: (read end, write end)."""
    if not stream.isatty():
        return os.pipe()
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, fcntl.ioctl(stream.fileno(), termios.TIOCGWINSZ, b"\0" * 8))
    tty.setraw(theirs)  # our own terminal adds the carriage returns
    return ours, theirs


def _pump(process: subprocess.Popen[bytes], relays: "Mapping[int, _Relay]") -> None:
    """Pass on what comes until the command has ended; what it left behind may hold the pipes, and talk, for ever."""
    until: float | None = None
    with selectors.DefaultSelector() as selector:
        for source in relays:
            selector.register(source, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(timeout=0.2)
            if until is None and process.poll() is not None:
                until = time.monotonic() + _LAST_WORDS_S
            if until is not None and (not ready or time.monotonic() > until):
                return
            for key, _ in ready:
                try:
                    data = os.read(key.fd, 1 << 16)
                except OSError:  # a terminal whose other end was closed
                    data = b""
                if data:
                    relays[key.fd].feed(data)
                else:
                    selector.unregister(key.fd)


class _Relay:
    """Passes text on piece by piece; holds a line back only while it may still turn out to be a hidden one."""

    def __init__(self, sink: TextIO, hide: tuple[str, ...]) -> None:
        self.lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._sink, self._hide = sink, hide
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._line, self._shown, self._deaf = "", 0, False

    def feed(self, data: bytes) -> None:
        """Take the next bytes."""
        for piece in re.split(r"(?<=[\r\n])", self._decoder.decode(data)):
            self._line += piece
            clean = _ESCAPES.sub("", self._line).strip("\r\n")
            whole = self._line.endswith(("\n", "\r"))
            # What is hidden stands among blank lines of its own.
            hidden = bool(self._hide) and (clean.startswith(self._hide) or (whole and not clean.strip()))
            if not hidden and (whole or not any(start.startswith(clean) for start in self._hide)):
                self._show(self._line[self._shown :])
                self._shown = len(self._line)
            if whole:
                if self._line.endswith("\n"):
                    self.lines.append(clean)
                self._line, self._shown = "", 0

    def _show(self, text: str) -> None:
        if self._deaf:
            return
        try:
            self._sink.write(text)
            self._sink.flush()
        except (
            OSError
        ):  # the terminal was closed, or `| head` has seen enough: nobody reads, the work goes on
            self._deaf = True

    def close(self) -> None:
        """Show what was still held back."""
        self.feed(b"\n" if self._line and not self._shown else b"")
