"""Register the model of a project, and replace it by another model."""

import shutil
from pathlib import Path

from temper.config import Params
from temper.ops.mlflow import model_versions
from temper.ops.mlflow.run_logger import Record
from temper.ops.project import Project
from temper.ops.release import registration
from tests.unit.ops.finished import make_finished


def run_once(project: Project, params: Params) -> tuple[Record, model_versions.Registered, str]:
    record = Record(project, params, "2026-01-01 00:00:00")
    record.begin()
    record.add_evaluation()
    version, reason = registration.register(record.client, project, params, record.child("quantized"))
    record.end("FINISHED")
    return record, version, reason


def swap_model(project: Project, tmp_path: Path, *, accuracy: float, width: int) -> None:
    """Replace the project's quantized model by another one."""
    other = make_finished(tmp_path / f"other{width}", accuracy=accuracy, width=width)
    shutil.rmtree(project.artifacts)
    shutil.rmtree(project.reports)
    shutil.copytree(other.artifacts, project.artifacts)
    shutil.copytree(other.reports, project.reports)
