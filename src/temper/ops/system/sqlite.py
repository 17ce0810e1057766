"""SQLite files: is one whole, put a broken one aside, keep a copy of a good one."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

TIMEOUT_S = 30.0
"""How long to wait for somebody else's transaction."""
_ELSEWHERE = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"""Complaints that say nothing about the file itself."""


def reading(path: Path) -> "closing[sqlite3.Connection]":
    """A database that is there, to be read from; closed at the end of the `with`.

    It is opened for writing: what a killed writer left half done can be undone by such a connection only.
    """
    return closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=TIMEOUT_S))


def damage(path: Path) -> str | None:
    """What is wrong with a database file; None if it is whole, or not there.

    Raises:
        OSError: If that cannot be told: the disk is full, it may not be read, somebody holds it.
    """
    if not path.is_file():
        return None
    try:
        with reading(path) as database:
            found = [line for (line,) in database.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _ELSEWHERE:
            raise OSError(
                f"could not read {path}: {error}; mend that and run the same command again"
            ) from error
        return str(error)
    return None if found == ["ok"] else found[0].splitlines()[0]


def move_away(path: Path) -> Path:
    """Rename a database, with its journals, so that a new one is made; returns where it lies now."""
    target = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm", "-journal"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(target.with_name(target.name + suffix))
    return target


def copy(path: Path, target: Path) -> None:
    """Copy a database, also while others write to it; a reader of the target sees the old copy or the new one.

    Raises:
        OSError: If it cannot be read, or the copy not be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(temporary)) as made:
            source.backup(made)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    except sqlite3.Error as error:
        raise OSError(f"could not copy {path} to {target}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
