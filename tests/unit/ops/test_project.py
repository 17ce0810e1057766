from pathlib import Path

import pytest

from temper.make_command import PROJECT
from temper.ops.project import STORE, Project


def test_messages_never_contain_the_password_of_a_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(STORE, "https://ada:geheim@mlflow.example.org/base")
    project = Project.at(tmp_path)
    assert project.store == "https://mlflow.example.org/base"
    said = "API request to https://ada:geheim@mlflow.example.org/base/api/2.0 failed"
    assert project.redact(said) == "API request to https://mlflow.example.org/base/api/2.0 failed"


def test_without_a_password_nothing_is_removed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv(STORE, "https://mlflow.example.org")
    assert Project.at(tmp_path).redact("an @ stays: a@b") == "an @ stays: a@b"
    monkeypatch.delenv(STORE)
    assert Project.at(tmp_path).redact("an @ stays: a@b") == "an @ stays: a@b"


def test_every_process_of_a_project_knows_its_folder(tmp_path: Path):
    assert Project.at(tmp_path).environment()[PROJECT] == str(tmp_path.resolve())
