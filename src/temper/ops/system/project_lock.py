"""The lock of a project: only one run at a time works in its folder."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager

from temper.ops.project import Project


class Busy(ValueError):
    """Another run holds the project."""


@contextmanager
def exclusive(project: Project, *, wait: bool = False) -> Iterator[None]:
    """Hold the project's lock, since two runs in one folder would corrupt each other's files.

    It is a lock of the kernel, so it ends with the process that holds it, however that process ends.

    Args:
        project: Project to lock.
        wait: Wait until the other run ends, instead of failing.

    Raises:
        Busy: If another run holds it.
    """
    project.hidden.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "lock").open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = f"another run is working on {project.folder} (process {stream.read() or 'unknown'})"
            if not wait:
                raise Busy(
                    f"{holder}; wait for it or end it, then run the same command again (or use BUSY=wait)"
                ) from None
            print(f"{holder}; waiting for it to end", flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield
