"""The processes of a run: who they are, and whether any was left behind."""

import re
import time

import psutil

from temper.ops.project import MARK, Project
from temper.ops.system import subprocesses

GRACE_S = 10.0
"""Within which everything a run started must be gone after it ended, however it ended."""
_ROLES = (
    ("server", r"prefect\.server|uvicorn"),
    ("torchrun", r"temper\.engine\.launch"),
    ("pool worker", r"multiprocessing\.|forkserver|resource_tracker"),
    ("dvc", r"(^|/)dvc( |$)|-m dvc"),
    ("shell", r"^(/bin/)?(ba|da)?sh -c"),
    ("flow", r"flows\.pipeline"),
)


def role(process: psutil.Process) -> str:
    """What a process is for: `flow`, `dvc`, `shell`, `train`, `train rank`, `server`, …"""
    line = " ".join(process.cmdline())
    for name, pattern in _ROLES:
        if re.search(pattern, line):
            return name
    if found := re.search(r"temper (\w+)", line):
        return f"{found[1]} rank" if "TORCHELASTIC_RUN_ID" in process.environ() else found[1]
    return process.name()


def living(project: Project, root: int | None = None) -> list[psutil.Process]:
    """Every living process of a project: by its mark, by its command line, and the descendants of `root`."""
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
    """Processes by what they are for; those that end meanwhile are left out."""
    found: dict[str, list[psutil.Process]] = {}
    for process in processes:
        try:
            found.setdefault(role(process), []).append(process)
        except psutil.Error:
            continue
    return found


def left_behind(project: Project, grace_s: float = GRACE_S) -> list[str]:
    """What a run that has ended left running for longer than the grace, in words."""
    until = time.monotonic() + grace_s
    while living(project) and time.monotonic() < until:
        time.sleep(0.2)
    return [
        f"{name} (process {process.pid})"
        for name, found in roles(living(project)).items()
        for process in found
    ]


def kill_all(project: Project, root: int | None = None) -> None:
    """Kill every process of a project, as a power cut would; again until none is left, for they start others meanwhile."""
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
