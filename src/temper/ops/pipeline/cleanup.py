"""Removes what killed runs left behind, and checkpoints that are no longer needed."""

import shutil

from temper import artifacts
from temper.ops import dvc_repair
from temper.ops.project import MARK, Project
from temper.ops.system import subprocesses


def forget_checkpoints(project: Project, stage: str) -> None:
    """Remove a stage's checkpoints; call it after DVC has recorded the stage's result."""
    for folder in (project.hidden / "checkpoints").glob("*"):
        mark = folder / artifacts.STAGE_OF_CHECKPOINTS
        if mark.is_file() and mark.read_text(encoding="utf-8") == stage:
            shutil.rmtree(folder, ignore_errors=True)


def end_orphans(project: Project) -> list[str]:
    """End the processes that a killed run of this project left; call it while holding the project's lock.

    If a run or DVC is killed, the stage's process may survive. It would continue to train beside the next run
    and write the same files.

    Returns:
        A line for each process that was ended.
    """
    orphans = subprocesses.marked(MARK, str(project.folder))
    messages = [f"ended process {process.pid}, left over from a run that was killed" for process in orphans]
    subprocesses.end(orphans)
    dvc_repair.release_dead(project)
    return messages
