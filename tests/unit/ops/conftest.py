"""A finished project with MLflow's tables. Creating the tables takes seconds, so it is done once."""

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from temper.config import load
from temper.ops.mlflow.run_logger import Record
from temper.ops.project import Project
from tests.unit.ops.finished import make_finished


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished project whose MLflow database has tables but no runs."""
    folder = tmp_path_factory.mktemp("template") / "project"
    project = make_finished(folder)
    Record(project, load(folder), "nothing yet")
    return folder


@pytest.fixture
def project(template: Path, tmp_path: Path) -> Project:
    shutil.copytree(template, tmp_path / "project")
    project = Project.at(tmp_path / "project")
    with closing(sqlite3.connect(project.database)) as database:  # MLflow stores absolute addresses
        folder = (project.runs / "artifacts").as_uri()
        database.execute("UPDATE experiments SET artifact_location = ?", (folder,))
        database.commit()
    return project
