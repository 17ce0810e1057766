"""The processes of a run: their roles, and whether any of them was left behind."""

import re
import time

import psutil

from temper.ops.project import MARK, Project
from temper.ops.system import subprocesses

GRACE_S = 10.0
"""Time after the end of a run within which all its processes must end, however the run ended."""
_ROLES = (
    ("server", r"prefect\.server|uvicorn"),
    ("torchrun", r"elastic_agent"),
    ("pool worker", r"multiprocessing\.|forkserver|resource_tracker"),
    ("dvc", r"(^|/)dvc( |$)|-m dvc"),
    ("shell", r"^(/bin/)?(ba|da)?sh -c"),
    ("flow", r"-m flows "),
)


def role(process: psutil.Process) -> str:
    """Return the role of a process: `flow`, `dvc`, `shell`, `train`, `train rank`, `server`, …"""
    line = " ".join(process.cmdline())
    for name, pattern in _ROLES:
        if re.search(pattern, line):
            return name
    if found := re.search(r"temper stage (\w+)", line):
        return f"{found[1]} rank" if "TORCHELASTIC_RUN_ID" in process.environ() else found[1]
    return process.name()


def living(project: Project, root: int | None = None) -> list[psutil.Process]:
    """Return a project's living processes: by mark, by command line, and the descendants of `root`."""
    named = re.compile(re.escape(str(project.folder)) + r"(?![\w.-])")
    found = {process.pid: process for process in subprocesses.marked(MARK, str(project.folder))}
    for process in psutil.process_iter():
        try:
            if any(named.search(word) for word in process.cmdline()):
                found[process.pid] = process
        except psutil.Error:
            continue
    if root is not None:
        try:
            first = psutil.Process(root)
            found |= {process.pid: process for process in (first, *first.children(recursive=True))}
        except psutil.NoSuchProcess:
            pass
    return [process for process in found.values() if _lives(process)]


def roles(processes: list[psutil.Process]) -> dict[str, list[psutil.Process]]:
    """Return role -> processes; processes that end meanwhile are left out."""
    found: dict[str, list[psutil.Process]] = {}
    for process in processes:
        try:
            found.setdefault(role(process), []).append(process)
        except psutil.Error:
            continue
    return found


def left_behind(project: Project, grace_s: float = GRACE_S) -> list[str]:
    """Return descriptions of the processes that run for longer than `grace_s` after a run has ended."""
    until = time.monotonic() + grace_s
    while living(project) and time.monotonic() < until:
        time.sleep(0.2)
    return [
        f"{name} (process {process.pid})"
        for name, found in roles(living(project)).items()
        for process in found
    ]


def kill_all(project: Project, root: int | None = None) -> None:
    """Kill every process of a project, like a power cut.

    This is repeated until no process is left, since processes may start others meanwhile.
    """
    for _ in range(5):
        found = living(project, root)
        for process in found:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        psutil.wait_procs(found, timeout=1.0)
        if not found:
            return


def _lives(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
