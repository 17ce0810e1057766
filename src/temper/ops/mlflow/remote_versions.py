"""The registry where MLflow, or the store of its files, is not the project's own: asked through MLflow, files fetched and kept by their digest."""

import fcntl
import json
import shutil
from pathlib import Path

import mlflow.artifacts
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient, set_tracking_uri

from temper.ops.project import Project

MODEL = "model.onnx"
_GONE = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


def find(project: Project, name: str, digest: str) -> ModelVersion | None:
    """The newest version whose file has this digest."""
    found = _client(project).search_model_versions(f"name = '{name}' AND tags.digest = '{digest}'")
    return max(found, key=lambda version: int(version.version), default=None)


def named(project: Project, name: str, *, version: int | None, alias: str | None) -> ModelVersion | None:
    """The version that has a number or an alias."""
    client = _client(project)
    try:
        if version is not None:
            return client.get_model_version(name, str(version))
        return client.get_model_version_by_alias(name, str(alias))
    except MlflowException as error:
        if error.error_code in _GONE:
            return None
        raise


def aliases(project: Project, version: ModelVersion) -> tuple[str, ...]:
    """Of a version; where it was searched for, MLflow leaves them out."""
    found = _client(project).get_model_version(version.name, version.version).aliases
    return tuple(sorted(found))


def fetch(project: Project, version: ModelVersion) -> Path:
    """The folder with a version's files, here; fetched once."""
    kept = project.hidden / "versions" / f"{version.version}-{version.tags.get('digest', 'unknown')[:16]}"
    kept.parent.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "versions.lock").open("a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # a server's processes all want it in the same moment
        if not (kept / MODEL).is_file() or json.loads(version.tags.get("files", "{}")).keys() - {
            path.name for path in kept.iterdir()
        }:
            _download(project, version, kept)
    return kept


def _download(project: Project, version: ModelVersion, kept: Path) -> None:
    """Lay a version's files into a folder; where that fails there is none: whoever reads a file finds it missing, and says so."""
    _client(project)
    partial = kept.with_name(f".{kept.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        mlflow.artifacts.download_artifacts(
            f"models:/{version.name}/{version.version}", dst_path=str(partial)
        )
    except (MlflowException, OSError):
        shutil.rmtree(partial, ignore_errors=True)
        return
    shutil.rmtree(kept, ignore_errors=True)
    partial.replace(kept)


def _client(project: Project) -> MlflowClient:
    set_tracking_uri(project.tracking_uri)
    return MlflowClient(project.tracking_uri)
