"""SQLite files: is one whole, put a broken one aside, keep a copy of a good one."""

import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path


def damage(path: Path) -> str | None:
    """What is wrong with a database file; None if it is whole, or not there."""
    if not path.is_file():
        return None
    try:
        with closing(sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=30)) as database:
            found = [line for (line,) in database.execute("PRAGMA integrity_check(3)")]
    except sqlite3.DatabaseError as error:
        return str(error)
    return None if found == ["ok"] else found[0].splitlines()[0]


def put_aside(path: Path) -> Path:
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
