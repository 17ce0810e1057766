"""The promotion log: who made which version the champion, when and why. Lines are only appended.

The log is `mlruns/promotions.jsonl`. Each line contains the digest of the line before it, so a line that was
changed or removed is noticed. Every promotion stores a copy of the log in MLflow (`promotion.py`), from which
a lost file is restored. This module does not import MLflow.
"""

import fcntl
import getpass
import json
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from temper.artifacts import digest_json, write_atomically
from temper.ops.project import Project

FILE = "promotions.jsonl"
Action = Literal["promoted", "rolled back", "kept", "by hand"]
"""`kept`: the gate did not change the champion. `by hand`: a user moved the alias in MLflow."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """One line of the log."""

    number: int
    action: Action
    version: int | None
    """The new champion or, if the champion was kept, the challenger; None if the alias was removed."""
    before: int | None
    """The champion before this entry."""
    digest: str | None
    """SHA-256 of the version's file."""
    why: str
    """The gate's verdict in one line, or a user's reason."""
    outcome: str | None = None
    """The gate's verdict: pass, fail, bootstrap or incomparable; None if the gate was not asked."""
    forced: bool = False
    """Whether a user promoted the version although the gate rejected it."""
    who: str = ""
    """User and host that made the entry."""
    when: str = ""
    """Time of the entry in UTC, to the second."""
    last: str = ""
    """Digest of the line before this one; empty in the first line."""

    @property
    def champion(self) -> int | None:
        """The champion after this entry."""
        return self.before if self.action == "kept" else self.version


@contextmanager
def exclusive(project: Project) -> Iterator[None]:
    """Hold the lock on the champion, so that no other process promotes or rolls back at the same time.

    It is a lock of the kernel, which releases it when the process that holds it ends.
    """
    project.hidden.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "promotion.lock").open("a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def path(project: Project) -> Path:
    """Return the path of the log."""
    return project.runs / FILE


def read(project: Project) -> list[Entry]:
    """Return all entries of the log, the oldest first; empty if there is no log.

    Raises:
        ValueError: If a line was changed or removed; names the line.
    """
    if not path(project).is_file():
        return []
    lines = path(project).read_text(encoding="utf-8").splitlines()
    entries: list[Entry] = []
    last = ""
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line)
            entry = Entry(**value)
        except (ValueError, TypeError) as error:
            raise _damaged(project, number, "it is not an entry of this log") from error
        if entry.last != last or entry.number != number:
            raise _damaged(project, number, "it does not follow from the line before")
        entries.append(entry)
        last = digest_json(value)
    return entries


def add(project: Project, **what: Any) -> Entry:
    """Append a line; call it while holding `exclusive`.

    Number, time, user and the digest of the line before are filled in.
    """
    entries = read(project)
    entry = Entry(
        number=len(entries) + 1,
        **what,
        who=f"{getpass.getuser()}@{socket.gethostname()}",
        when=time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime()),
        last=digest_json(asdict(entries[-1])) if entries else "",
    )
    write(project, [*entries, entry])
    return entry


def write(project: Project, entries: list[Entry]) -> None:
    """Write the log atomically, since half a line would damage the next one."""
    project.runs.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path(project), "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
    )


def format_log(entries: list[Entry]) -> str:
    """Format the log for the terminal, one line for each entry, the newest last."""
    return "\n".join(line(entry) for entry in entries)


def line(entry: Entry) -> str:
    """Format an entry as one line."""
    version = f"version {entry.version}" if entry.version is not None else "no version"
    moved = (
        f" (champion before: {entry.before})"
        if entry.before not in (None, entry.version) and entry.action != "kept"
        else ""
    )
    text = {
        "promoted": f"{version} became champion{moved}",
        "rolled back": f"rolled back to {version}{moved}",
        "kept": f"{version} stayed challenger, champion is still {entry.before}"
        if entry.before
        else f"{version} stayed challenger; no champion",
        "by hand": f"{version} was made champion by hand in MLflow{moved}"
        if entry.version
        else f"the alias champion was removed by hand{moved}",
    }[entry.action]
    forced = " FORCED" if entry.forced else ""
    return f"{entry.when}  {entry.who}  {text}{forced}: {entry.why}"


def _damaged(project: Project, number: int, why: str) -> ValueError:
    return ValueError(
        f"{path(project)}, line {number}: {why}. Lines are only appended, so the file was damaged or edited; "
        "restore a copy (every promotion stored one with its run in MLflow), or move the file away to start "
        "a new log"
    )
