"""Register what lies in a project, and put another model in its place."""

import shutil
from pathlib import Path

from tasks import catalogue, registry
from tasks.project import Project
from tasks.tracking import Record
from temper.params import Params
from tests.unit.tasks.finished import make_finished


def run_once(project: Project, params: Params) -> tuple[Record, catalogue.Registered, str]:
    record = Record(project, params, "2026-01-01 00:00:00")
    record.begin()
    record.add_evaluation()
    version, reason = registry.register(record.client, project, params, record.child("quantized"))
    record.end("FINISHED")
    return record, version, reason


def swap_model(project: Project, tmp_path: Path, *, accuracy: float, width: int) -> None:
    """Put another quantized model into the project."""
    other = make_finished(tmp_path / f"other{width}", accuracy=accuracy, width=width)
    shutil.rmtree(project.artifacts)
    shutil.rmtree(project.reports)
    shutil.copytree(other.artifacts, project.artifacts)
    shutil.copytree(other.reports, project.reports)
