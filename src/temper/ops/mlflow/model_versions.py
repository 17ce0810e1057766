"""The registered model versions, read directly from MLflow's database.

An unchanged rerun therefore need not import MLflow, which takes 3 s.

This module only reads; MLflow's client does all writing (`temper.ops.release`). The queries depend on
MLflow's internal tables, which may change with its version. They are written for MLflow 3.17, which
requirements.lock pins. A deleted version keeps its row, with `current_stage = 'Deleted_Internal'`. Aliases
and tags are in separate tables. `tests/unit/ops/test_registration.py` compares this module with MLflow's
client. A database without the tables raises an error; it never counts as "not registered".
"""

import json
import re
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

from temper.artifacts import digest_file
from temper.ops.project import Project
from temper.ops.system import sqlite

_VERSION = """
    SELECT v.version, COALESCE(v.storage_location, v.source)
    FROM model_versions AS v JOIN model_version_tags AS t
        ON (t.name, t.version, t.workspace) = (v.name, v.version, v.workspace)
    WHERE v.name = ? AND v.current_stage != 'Deleted_Internal' AND t.key = 'digest' AND t.value = ?
    ORDER BY v.version DESC
"""
_NAMED = """
    SELECT v.version, COALESCE(v.storage_location, v.source) FROM model_versions AS v
    WHERE v.name = :name AND v.current_stage != 'Deleted_Internal' AND v.version = COALESCE(:version,
        (SELECT version FROM registered_model_aliases AS a
            WHERE (a.name, a.workspace, a.alias) = (v.name, v.workspace, :alias)))
"""
_RUNNING = """
    SELECT COUNT(*) FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid
    WHERE runs.status = 'RUNNING' AND runs.lifecycle_stage = 'active' AND tags.key = 'temper.run'
"""
_RUNNING_FLOWS = """
    SELECT COUNT(*) FROM flow_run JOIN flow ON flow.id = flow_run.flow_id
        LEFT JOIN task_run ON task_run.flow_run_id = flow_run.id
    WHERE flow.name IN (SELECT value FROM json_each(?)) AND (
        flow_run.state_type IN ('RUNNING', 'PENDING', 'SCHEDULED', 'CANCELLING')
        OR task_run.state_type IN ('RUNNING', 'PENDING', 'SCHEDULED', 'CANCELLING')
    )
"""
_REFERENCE = re.compile(
    r"models:/(?P<name>[\w.-]+)(?:@(?P<alias>[\w.-]+)|/(?P<version>\d+))/(?P<file>[\w.-]+)"
)
_ALIASES = "SELECT alias FROM registered_model_aliases WHERE name = ? AND version = ? ORDER BY alias"
_TAGS = "SELECT key, value FROM model_version_tags WHERE name = ? AND version = ?"


@dataclass(frozen=True)
class Registered:
    """A version of a registered model."""

    name: str
    version: int
    aliases: tuple[str, ...]
    digest: str
    """SHA-256 of the ONNX file."""
    file: Path
    """Path of the ONNX file in MLflow's artifact folder."""
    finished: bool
    """Whether the gate's verdict is recorded.

    If it is not, the registration was interrupted after it created the version and before it set the aliases.
    """
    beside: Mapping[str, str]
    """Names of the files that MLflow stored beside the ONNX file, and the SHA-256 that each must have."""

    @property
    def whole(self) -> bool:
        """Whether the ONNX file exists and is the one that was registered."""
        return self.file.is_file() and digest_file(self.file) == self.digest

    @property
    def loadable(self) -> bool:
        """Whether the files beside the ONNX file are those that MLflow wrote."""
        found = {name: self.file.with_name(name) for name in self.beside}
        return all(path.is_file() and digest_file(path) == self.beside[name] for name, path in found.items())


def known(project: Project) -> bool:
    """Return whether MLflow's database exists and has tables; an external MLflow is assumed to have them."""
    if project.elsewhere is not None:
        return True
    if not project.database.is_file():
        return False
    with sqlite.reading(project.database) as database:
        return database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone() is not None


def find(project: Project, name: str, digest: str) -> Registered | None:
    """Return the newest version of a registered model whose file has this digest, or None.

    Raises:
        sqlite3.Error: If the database is damaged or has another schema than this module was written for.
    """
    if project.elsewhere is not None:
        from temper.ops.mlflow import remote_versions

        return _fetch_files(project, remote_versions.find(project, name, digest))
    if not known(project):  # the first run may have been interrupted before MLflow created its tables
        return None
    with sqlite.reading(project.database) as database:
        return _read(project, database, name, database.execute(_VERSION, (name, digest)).fetchone())


def named(
    project: Project, name: str, *, version: int | None = None, alias: str | None = None
) -> Registered | None:
    """Return the version of a registered model that has a number or an alias, or None.

    Raises:
        sqlite3.Error: If the database is damaged or has another schema than this module was written for.
    """
    if project.elsewhere is not None:
        from temper.ops.mlflow import remote_versions

        return _fetch_files(project, remote_versions.named(project, name, version=version, alias=alias))
    if not known(project):
        return None
    with sqlite.reading(project.database) as database:
        values = {"name": name, "version": version, "alias": alias}
        return _read(project, database, name, database.execute(_NAMED, values).fetchone())


def _read(
    project: Project, database: sqlite3.Connection, name: str, row: tuple[int, str] | None
) -> Registered | None:
    if row is None:
        return None
    if urlparse(row[1]).scheme not in ("", "file"):  # the database is local, but the files are external
        from temper.ops.mlflow import remote_versions

        return _fetch_files(project, remote_versions.named(project, name, version=row[0], alias=None))
    aliases = tuple(alias for (alias,) in database.execute(_ALIASES, (name, row[0])))
    tags = dict(database.execute(_TAGS, (name, row[0])))
    return _make_registered(name, row[0], aliases, tags, _local(row[1]))


def _fetch_files(project: Project, version: Any) -> Registered | None:
    """Fetch the files of a version whose files, and perhaps MLflow itself, are external."""
    if version is None:
        return None
    from temper.ops.mlflow import remote_versions

    aliases = remote_versions.aliases(project, version)
    return _make_registered(
        version.name, int(version.version), aliases, version.tags, remote_versions.fetch(project, version)
    )


def _make_registered(
    name: str, version: int, aliases: tuple[str, ...], tags: Mapping[str, str], folder: Path
) -> Registered:
    try:
        beside = dict(json.loads(tags.get("files", "{}")))
    except ValueError:
        beside = {
            "MLmodel": "unknown"
        }  # the tag is damaged: the version is not loadable until it is registered again
    return Registered(
        name, version, aliases, tags.get("digest", ""), folder / "model.onnx", "gate" in tags, beside
    )


def locate(project: Project, reference: str) -> tuple[Path, str]:
    """Return the path of a file beside a registered model, and the SHA-256 that it must have.

    Args:
        project: Project in whose MLflow the model is registered.
        reference: `models:/NAME@ALIAS/FILE` or `models:/NAME/VERSION/FILE`.

    Raises:
        ValueError: If there is no such model, version, alias or file; names what there is.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(
            f"{reference!r} does not name a file of a model version; write models:/NAME@ALIAS/FILE or "
            "models:/NAME/VERSION/FILE"
        )
    version = int(match["version"]) if match["version"] else None
    found = named(project, match["name"], version=version, alias=match["alias"])
    if found is None:
        raise ValueError(
            f"{reference!r}: {project.store} has no such model version; "
            f"`{project.make('ui')}` shows the existing ones"
        )
    if match["file"] not in found.beside:
        files = ", ".join(name for name in found.beside if name.endswith(".safetensors")) or "no weights"
        raise ValueError(f"{reference!r}: the version has no file {match['file']!r}; it has {files}")
    return found.file.with_name(match["file"]), found.beside[match["file"]]


def unclosed(project: Project, flows: tuple[str, ...]) -> bool:
    """Return whether MLflow or Prefect records a run of this project as running, or cannot be queried.

    Call it while holding the project's lock.
    """
    queries = (
        (project.database, _RUNNING, ()),
        (project.prefect_home / "prefect.db", _RUNNING_FLOWS, (json.dumps(flows),)),
    )
    for path, query, values in queries:
        if path.is_file():
            with sqlite.reading(path) as database:
                try:
                    if database.execute(query, values).fetchone()[0]:
                        return True
                except sqlite3.Error:
                    return True  # no tables yet, or damaged: opening it to close the records repairs it
    return False


def _local(address: str) -> Path:
    """Return the folder of an artifact address."""
    parts = urlparse(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(address)
