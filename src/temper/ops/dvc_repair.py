"""Repairs what a killed DVC leaves behind: a dvc.lock that is cut off, and its register of who reads and writes what."""

import fcntl
import json
import time
from typing import Any

import psutil
from ruamel.yaml.error import YAMLError

from temper import artifacts
from temper.ops.dvc import LOCK_FILE, read_yaml, root
from temper.ops.project import Project

_FILE_KEYS = {"path", "hash", "md5", "size", "nfiles", "isexec"}
"""What DVC writes of a file or folder into dvc.lock."""


def repair_lock(project: Project) -> str | None:
    """Put a dvc.lock aside that is no YAML or not DVC's: DVC writes it in place, and a run may be killed in the midst of that.

    Nothing is lost with it: DVC finds in its cache what the stages made from the same inputs.

    Returns:
        What was done, or None.
    """
    path = project.folder / LOCK_FILE
    try:
        stages = read_yaml(path).get("stages", {})
        whole = all(_is_entry(entry) for entry in stages.values())
        if not path.is_file() or (
            whole and stages and path.read_bytes().endswith(b"\n")
        ):  # half a line may look whole
            return None
    except (YAMLError, AttributeError, KeyError, IndexError, TypeError, ValueError):
        pass
    target = project.hidden / f"{LOCK_FILE}.damaged"
    path.replace(target)
    return f"{path} was damaged; put it aside as {target}, DVC's cache has what it told of"


def _is_entry(entry: dict[str, Any]) -> bool:
    """Whether a stage of dvc.lock is one that DVC will read: with an unknown key or a wrong type it refuses all that it is asked."""
    files = [*entry["deps"], *entry["outs"]]
    return (
        entry.keys() <= {"cmd", "deps", "params", "outs"}
        and isinstance(entry["cmd"], str)
        and isinstance(entry.get("params", {}), dict)
        and bool(entry["outs"][0]["md5"])
        and all(file.keys() <= _FILE_KEYS and isinstance(file["path"], str) for file in files)
        and all(isinstance(file[key], int) for file in files for key in ("size", "nfiles") if key in file)
    )


def repair_register(project: Project) -> str | None:
    """Remove DVC's register of who reads and writes what if it was cut off: DVC would refuse everything from then on.

    Call it after `prepare`. Whoever was on it is told from the lock files that DVC really relies on.

    Returns:
        What was done, or None.
    """
    path = root(project) / ".dvc" / "tmp" / "rwlock"
    for _ in range(3):  # another project's DVC may be writing it at this instant
        try:
            text = path.read_text(encoding="utf-8")
            if isinstance(json.loads(text), dict):
                return None
        except FileNotFoundError:
            return None
        except ValueError:
            pass
        time.sleep(0.3)
    path.unlink(missing_ok=True)
    return f"{path} was cut off; removed it"


def release_dead(project: Project) -> None:
    """Take what dead processes hold out of DVC's register of who reads and writes what.

    DVC does that itself, but by number alone: it waits for a process that ended and that nobody has asked about, and, after the
    machine was started again, for whoever has the number now.
    """
    folder = root(project) / ".dvc" / "tmp"
    path = folder / "rwlock"
    if not path.is_file():
        return
    with (folder / "rwlock.lock").open("a+", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # as DVC does while it edits
        try:
            register = json.loads(path.read_text(encoding="utf-8"))
            readers = {
                where: [one for one in holders if _works(one)]
                for where, holders in register.get("read", {}).items()
            }
            writers = {where: holder for where, holder in register.get("write", {}).items() if _works(holder)}
        except (ValueError, AttributeError, KeyError, TypeError):
            return  # cut off: `repair_register` removes it
        living = {"read": {where: holders for where, holders in readers.items() if holders}, "write": writers}
        if living != register:
            artifacts.write_atomically(path, json.dumps(living))


def _works(holder: dict[str, Any]) -> bool:
    """Whether the process that an entry names still is the one that made it."""
    try:
        command = psutil.Process(int(holder["pid"])).cmdline()  # empty of one that has ended, or is ending
    except psutil.Error:
        return False
    return " ".join(command).endswith(str(holder["cmd"]))
