"""The registry of an external MLflow, or of a local MLflow with external files.

It is read through MLflow's client. Files are fetched once and stored by their digest.
"""

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
    """Return the newest version whose file has this digest, or None."""
    found = _client(project).search_model_versions(f"name = '{name}' AND tags.digest = '{digest}'")
    return max(found, key=lambda version: int(version.version), default=None)


def named(project: Project, name: str, *, version: int | None, alias: str | None) -> ModelVersion | None:
    """Return the version that has a number or an alias, or None."""
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
    """Return the aliases of a version, which MLflow leaves out of search results."""
    found = _client(project).get_model_version(version.name, version.version).aliases
    return tuple(sorted(found))


def fetch(project: Project, version: ModelVersion) -> Path:
    """Return the local folder with a version's files, which are fetched once."""
    folder = project.hidden / "versions" / f"{version.version}-{version.tags.get('digest', 'unknown')[:16]}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "versions.lock").open("a+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)  # all processes of a server fetch at the same moment
        if not (folder / MODEL).is_file() or json.loads(version.tags.get("files", "{}")).keys() - {
            path.name for path in folder.iterdir()
        }:
            _download(project, version, folder)
    return folder


def _download(project: Project, version: ModelVersion, folder: Path) -> None:
    """Download a version's files into a folder.

    After a failure the folder does not exist: code that reads a file from it reports the file as missing.
    """
    _client(project)
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        mlflow.artifacts.download_artifacts(
            f"models:/{version.name}/{version.version}", dst_path=str(partial)
        )
    except (MlflowException, OSError):
        shutil.rmtree(partial, ignore_errors=True)
        return
    shutil.rmtree(folder, ignore_errors=True)
    partial.replace(folder)


def _client(project: Project) -> MlflowClient:
    set_tracking_uri(project.tracking_uri)
    return MlflowClient(project.tracking_uri)
