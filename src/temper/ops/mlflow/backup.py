"""The backup of MLflow's database, which is made after each run and restored by `make restore`."""

import time
from pathlib import Path

from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from temper.ops.system import sqlite


def check(project: Project) -> None:
    """Check that MLflow's database is usable.

    Raises:
        ValueError: If it is damaged, or missing or empty although there is a good backup; names the way out.
    """
    if project.elsewhere is not None:
        return
    backup = _backup_file(project)
    damage = sqlite.damage(project.database)
    if damage is None and (model_versions.known(project) or not backup.is_file()):
        return
    usable = backup.is_file() and sqlite.damage(backup) is None
    if damage or usable:
        state = "empty" if project.database.is_file() else "missing"
        problem = (
            f"is damaged ({damage})"
            if damage
            else f"is {state} (to start from scratch, delete the folder {project.runs})"
        )
        if usable:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(backup.stat().st_mtime))
            remedy = f"restores the backup of {when}"
        else:
            remedy = "moves it away, and the next run starts with an empty database"
        raise ValueError(
            f"{project.database} {problem}; `{project.make('restore')}` {remedy}; then "
            f"`{project.make('pipeline')}` registers the model in the artifacts again"
        )


def restore(project: Project) -> str:
    """Move MLflow's database away and restore the last good backup, if there is one; returns what was done.

    Raises:
        ValueError: If MLflow is external.
    """
    if project.elsewhere is not None:
        raise ValueError(
            f"TEMPER_MLFLOW_URI = {project.store}: only the project's own database can be restored; use the "
            "backups of that server"
        )
    existed = project.database.exists()
    # The journals are moved even if the database is missing, since they would corrupt the restored copy.
    target = sqlite.move_away(project.database)
    done = f"moved {project.database} to {target.name}" if existed else f"{project.database} was missing"
    if not _backup_file(project).is_file() or sqlite.damage(_backup_file(project)):
        return f"{done}; there is no good backup, so the next run starts with an empty database"
    sqlite.copy(_backup_file(project), project.database)
    return f"{done}; restored {_backup_file(project)}"


def save(project: Project) -> None:
    """Back up MLflow's database if it is intact; call it after MLflow has written to it without an error."""
    if project.elsewhere is None and sqlite.damage(project.database) is None:
        sqlite.copy(project.database, _backup_file(project))


def _backup_file(project: Project) -> Path:
    return project.runs / "mlflow.backup.db"
