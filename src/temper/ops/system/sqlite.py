"""SQLite files: check one, move a damaged one away, copy a good one."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

TIMEOUT_S = 30.0
"""Seconds to wait for another process's transaction."""
_UNRELATED = {
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_IOERR,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_READONLY,
}
"""Error codes that say nothing about the file itself."""


def reading(path: Path) -> "closing[sqlite3.Connection]":
    """Open an existing database for reading; it is closed at the end of the `with`.

    It is opened for writing, since only such a connection can undo what a killed writer left half done.
    """
    return closing(sqlite3.connect(f"{path.as_uri()}?mode=rw", uri=True, timeout=TIMEOUT_S))


def damage(path: Path) -> str | None:
    """Return what is wrong with a database file; None if it is intact or does not exist.

    Raises:
        OSError: If the file cannot be checked: full disk, no permission, or another process holds the file.
    """
    if not path.is_file():
        return None
    try:
        with reading(path) as database:
            found = [line for (line,) in database.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorcode & 0xFF in _UNRELATED:
            raise OSError(
                f"could not read {path}: {error}; fix that and run the same command again"
            ) from error
        return str(error)
    return None if found == ["ok"] else found[0].splitlines()[0]


def move_away(path: Path) -> Path:
    """Rename a database and its journals, so that a new one can be made; returns the new path."""
    target = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for suffix in ("", "-wal", "-shm", "-journal"):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.replace(target.with_name(target.name + suffix))
    return target


def copy(path: Path, target: Path) -> None:
    """Copy a database, even while others write to it; readers of the target see the old copy or the new one.

    Raises:
        OSError: If the database cannot be read or the copy cannot be written.
    """
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(temporary)) as destination:
            source.backup(destination)
        with temporary.open("rb") as stream:
            os.fsync(stream.fileno())
        temporary.replace(target)
    except sqlite3.Error as error:
        raise OSError(f"could not copy {path} to {target}: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
