"""The promotion log: who made which version champion, when and why. Lines are only ever added.

It lies in `mlruns/promotions.jsonl`; each line holds the digest of the one before, so that a line that was changed or taken out is
noticed. A copy goes with every promotion to MLflow (`promotion.py`), from which a lost file comes back. No MLflow is imported here.
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
"""`kept`: the gate left the champion where it was. `by hand`: somebody moved the alias in MLflow."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A line of the log."""

    number: int
    action: Action
    version: int | None
    """The version it is about: the new champion, or, where the champion was kept, the challenger; None: the alias was removed."""
    before: int | None
    """The champion before it."""
    digest: str | None
    """SHA-256 of the version's file."""
    why: str
    """The gate's verdict in a sentence, or a person's reason."""
    outcome: str | None = None
    """The gate's verdict: pass, fail, bootstrap, incomparable; None where it was not asked."""
    forced: bool = False
    """The gate said no, and a person said yes."""
    who: str = ""
    when: str = ""
    """UTC, to the second."""
    last: str = ""
    """Digest of the line before."""

    @property
    def champion(self) -> int | None:
        """The champion after it."""
        return self.before if self.action == "kept" else self.version


@contextmanager
def exclusive(project: Project) -> Iterator[None]:
    """Hold the champion: nobody else promotes or rolls back meanwhile; the kernel lets go of what a dead process held."""
    project.hidden.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "promotion.lock").open("a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def path(project: Project) -> Path:
    """Where the log lies."""
    return project.runs / FILE


def read(project: Project) -> list[Entry]:
    """The log from its beginning; empty if there is none.

    Raises:
        ValueError: If a line was changed or taken out; names it.
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
            raise _damaged(project, number, "it is no line of this log") from error
        if entry.last != last or entry.number != number:
            raise _damaged(project, number, "it does not follow from the line before")
        entries.append(entry)
        last = digest_json(value)
    return entries


def add(project: Project, **what: Any) -> Entry:
    """Add a line; call it while holding `alone`. Number, time, person and the digest of the line before are filled in."""
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
    """Write the log as a whole, or not at all: a line that is half there would spoil the next."""
    project.runs.mkdir(parents=True, exist_ok=True)
    write_atomically(
        path(project), "".join(json.dumps(asdict(entry), ensure_ascii=False) + "\n" for entry in entries)
    )


def format_log(entries: list[Entry]) -> str:
    """The log as lines for people, the newest last."""
    return "\n".join(line(entry) for entry in entries)


def line(entry: Entry) -> str:
    """An entry in a line."""
    version = f"version {entry.version}" if entry.version is not None else "no version"
    moved = (
        f" (champion before: {entry.before})"
        if entry.before not in (None, entry.version) and entry.action != "kept"
        else ""
    )
    said = {
        "promoted": f"{version} became champion{moved}",
        "rolled back": f"back to {version}{moved}",
        "kept": f"{version} stayed challenger, champion is still {entry.before}"
        if entry.before
        else f"{version} stayed challenger; no champion",
        "by hand": f"{version} was made champion by hand in MLflow{moved}"
        if entry.version
        else f"the alias champion was removed by hand{moved}",
    }[entry.action]
    forced = " FORCED" if entry.forced else ""
    return f"{entry.when}  {entry.who}  {said}{forced}: {entry.why}"


def _damaged(project: Project, number: int, why: str) -> ValueError:
    return ValueError(
        f"{path(project)}, line {number}: {why}. The log only ever grows, so somebody changed it; put back a copy (every promotion laid "
        "one beside its run in MLflow), or move the file away, and the log begins anew"
    )
