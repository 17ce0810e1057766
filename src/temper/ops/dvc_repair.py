"""Repairs files that a killed DVC leaves damaged: dvc.lock and the register of readers and writers."""

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
"""Keys that DVC writes for a file or folder in dvc.lock."""


def repair_lock(project: Project) -> str | None:
    """Move dvc.lock away if it is not valid YAML or if DVC would refuse it.

    DVC writes the file in place, so a killed run can leave it truncated. Nothing is lost: DVC finds in its
    cache what the stages made from the same inputs.

    Returns:
        What was done, or None if nothing was wrong.
    """
    path = project.folder / LOCK_FILE
    try:
        stages = read_yaml(path).get("stages", {})
        valid = all(_is_entry(entry) for entry in stages.values())
        # A truncated last line may be valid YAML, so the newline is checked, too.
        if not path.is_file() or (valid and stages and path.read_bytes().endswith(b"\n")):
            return None
    except (YAMLError, AttributeError, KeyError, IndexError, TypeError, ValueError):
        pass
    target = project.hidden / f"{LOCK_FILE}.damaged"
    path.replace(target)
    return (
        f"{path} was damaged and has been moved to {target}. "
        "Stage outputs are in DVC's cache and will be restored."
    )


def _is_entry(entry: dict[str, Any]) -> bool:
    """Return whether DVC accepts a stage entry of dvc.lock.

    With an unknown key or a wrong type in one entry, DVC refuses every command.
    """
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
    """Remove DVC's register of readers and writers if it is truncated: DVC would then refuse every command.

    Call it after `prepare`. The register's entries are not needed: DVC really relies on its lock files, which
    show the processes that are at work.

    Returns:
        What was done, or None if nothing was wrong.
    """
    path = root(project) / ".dvc" / "tmp" / "rwlock"
    for _ in range(3):  # another project's DVC may be writing it at this moment
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
    return f"{path} was truncated and has been removed"


def release_dead(project: Project) -> None:
    """Remove the entries of dead processes from DVC's register of readers and writers.

    DVC does this itself, but only by process id. It therefore waits for a process that has ended but has not
    been reaped by its parent, and, after a reboot, for the process that has the same id now.
    """
    folder = root(project) / ".dvc" / "tmp"
    path = folder / "rwlock"
    if not path.is_file():
        return
    with (folder / "rwlock.lock").open("a+", encoding="utf-8") as guard:
        fcntl.flock(guard, fcntl.LOCK_EX)  # DVC takes the same lock to edit the register
        try:
            register = json.loads(path.read_text(encoding="utf-8"))
            readers = {
                file: [holder for holder in holders if _is_alive(holder)]
                for file, holders in register.get("read", {}).items()
            }
            writers = {
                file: holder for file, holder in register.get("write", {}).items() if _is_alive(holder)
            }
        except (ValueError, AttributeError, KeyError, TypeError):
            return  # truncated: `repair_register` removes it
        alive = {"read": {file: holders for file, holders in readers.items() if holders}, "write": writers}
        if alive != register:
            artifacts.write_atomically(path, json.dumps(alive))


def _is_alive(holder: dict[str, Any]) -> bool:
    """Return whether the process that an entry names is still the one that made the entry."""
    try:
        command = psutil.Process(int(holder["pid"])).cmdline()  # empty if the process has ended or is ending
    except psutil.Error:
        return False
    return " ".join(command).endswith(str(holder["cmd"]))
