"""The backup of MLflow's database: made after each run, put back by `make restore`."""

import time
from pathlib import Path

from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from temper.ops.system import sqlite


def check(project: Project) -> None:
    """Raise ValueError if MLflow's database is damaged, or gone while there is a copy of it; names the way out."""
    if project.elsewhere is not None:
        return
    kept = _backup_file(project)
    damage = sqlite.damage(project.database)
    if damage is None and (model_versions.known(project) or not kept.is_file()):
        return
    usable = kept.is_file() and sqlite.damage(kept) is None
    if damage or usable:
        gone = "empty" if project.database.is_file() else "gone"
        found = (
            f"is damaged ({damage})"
            if damage
            else f"is {gone} (to begin anew, delete {project.runs} as a whole)"
        )
        if usable:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.stat().st_mtime))
            way = f"puts back the copy of {when}"
        else:
            way = "puts it aside and begins an empty one"
        raise ValueError(
            f"{project.database} {found}; `make restore PROJECT={project.folder}` {way}, and the next "
            f"`make pipeline PROJECT={project.folder}` registers again what the artifacts hold"
        )


def restore(project: Project) -> str:
    """Put MLflow's database aside and the last good copy, if there is one, in its place; returns what was done.

    Raises:
        ValueError: If MLflow is elsewhere.
    """
    if project.elsewhere is not None:
        raise ValueError(f"MLflow is at {project.store} (TEMPER_MLFLOW_URI), which keeps its own copies")
    there = project.database.exists()
    # With its journals, also where it is gone itself: they would spoil the copy.
    aside = sqlite.move_away(project.database)
    said = f"kept {project.database} as {aside.name}" if there else f"{project.database} is gone"
    if not _backup_file(project).is_file() or sqlite.damage(_backup_file(project)):
        return f"{said}; there is no good copy, the next run begins an empty one"
    sqlite.copy(_backup_file(project), project.database)
    return f"{said}; put back {_backup_file(project)}"


def save(project: Project) -> None:
    """Keep a copy of MLflow's database, which is good: it was just written to without complaint."""
    if project.elsewhere is None and sqlite.damage(project.database) is None:
        sqlite.copy(project.database, _backup_file(project))


def _backup_file(project: Project) -> Path:
    return project.runs / "mlflow.backup.db"
