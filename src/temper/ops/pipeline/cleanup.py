"""Removes what runs that were killed left behind, and checkpoints that are no longer needed."""

import shutil

from temper import artifacts
from temper.ops import dvc_repair
from temper.ops.project import MARK, Project
from temper.ops.system import subprocesses


def forget_checkpoints(project: Project, stage: str) -> None:
    """Remove what a stage kept to go on from: its result is on record."""
    for folder in (project.hidden / "checkpoints").glob("*"):
        mark = folder / artifacts.STAGE_OF_CHECKPOINTS
        if mark.is_file() and mark.read_text(encoding="utf-8") == stage:
            shutil.rmtree(folder, ignore_errors=True)


def end_orphans(project: Project) -> list[str]:
    """End what an earlier run of this project left running when it was killed; call it while holding `alone`.

    Killing a run, or DVC, leaves the stage's process: it would go on training beside the next run, on the same files.

    Returns:
        A line for each process that was ended.
    """
    orphans = subprocesses.marked(MARK, str(project.folder))
    said = [f"ended process {process.pid}, left over from a run that was killed" for process in orphans]
    subprocesses.end(orphans)
    dvc_repair.release_dead(project)
    return said
