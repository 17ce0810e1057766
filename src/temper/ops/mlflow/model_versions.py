"""What is registered, read straight from MLflow's database, so that an unchanged rerun need not import MLflow (3 s).

Read only; everything that writes goes through MLflow itself (`registry.py`). The trap: these are MLflow's own tables and may
change with its version. They are as of MLflow 3.17, pinned in requirements.lock; a deleted version keeps its row, with
`current_stage = 'Deleted_Internal'`; alias and tags lie in tables of their own. `tests/unit/ops/test_registration.py` holds
this file against MLflow's client. A database that does not have the tables raises; it never counts as "not registered".
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
    FROM model_versions AS v JOIN model_version_tags AS t ON (t.name, t.version, t.workspace) = (v.name, v.version, v.workspace)
    WHERE v.name = ? AND v.current_stage != 'Deleted_Internal' AND t.key = 'digest' AND t.value = ?
    ORDER BY v.version DESC
"""
_NAMED = """
    SELECT v.version, COALESCE(v.storage_location, v.source) FROM model_versions AS v
    WHERE v.name = :name AND v.current_stage != 'Deleted_Internal' AND v.version = COALESCE(:version,
        (SELECT version FROM registered_model_aliases AS a WHERE (a.name, a.workspace, a.alias) = (v.name, v.workspace, :alias)))
"""
_RUNNING = """
    SELECT COUNT(*) FROM runs JOIN tags ON tags.run_uuid = runs.run_uuid
    WHERE runs.status = 'RUNNING' AND runs.lifecycle_stage = 'active' AND tags.key = 'temper.run'
"""
_RUNNING_FLOWS = """
    SELECT COUNT(*) FROM flow_run JOIN flow ON flow.id = flow_run.flow_id LEFT JOIN task_run ON task_run.flow_run_id = flow_run.id
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
    """SHA-256 of its ONNX file."""
    file: Path
    """The ONNX file in MLflow's artifact folder."""
    finished: bool
    """The gate's verdict is on record: nothing was cut off between making the version and giving it its aliases."""
    beside: Mapping[str, str]
    """The files that MLflow laid beside it, and what each must hash to (SHA-256)."""

    @property
    def whole(self) -> bool:
        """The ONNX file is where MLflow says, and is the one that was registered."""
        return self.file.is_file() and digest_file(self.file) == self.digest

    @property
    def loadable(self) -> bool:
        """What lies beside it is what MLflow wrote."""
        found = {name: self.file.with_name(name) for name in self.beside}
        return all(path.is_file() and digest_file(path) == self.beside[name] for name, path in found.items())


def known(project: Project) -> bool:
    """Whether MLflow's database is there and has its tables; elsewhere it is taken to be."""
    if project.elsewhere is not None:
        return True
    if not project.database.is_file():
        return False
    with sqlite.reading(project.database) as database:
        return database.execute("SELECT 1 FROM sqlite_master WHERE type = 'table'").fetchone() is not None


def find(project: Project, name: str, digest: str) -> Registered | None:
    """The newest version of a registered model whose file has this digest, or None.

    Raises:
        sqlite3.Error: If the database is damaged or not of the schema this was written for.
    """
    if project.elsewhere is not None:
        from temper.ops.mlflow import remote_versions

        return _fetched(project, remote_versions.find(project, name, digest))
    if not known(project):  # a first run may have been cut off before MLflow made its tables
        return None
    with sqlite.reading(project.database) as database:
        return _read(project, database, name, database.execute(_VERSION, (name, digest)).fetchone())


def named(
    project: Project, name: str, *, version: int | None = None, alias: str | None = None
) -> Registered | None:
    """The version of a registered model that has a number or an alias, or None.

    Raises:
        sqlite3.Error: If the database is damaged or not of the schema this was written for.
    """
    if project.elsewhere is not None:
        from temper.ops.mlflow import remote_versions

        return _fetched(project, remote_versions.named(project, name, version=version, alias=alias))
    if not known(project):
        return None
    with sqlite.reading(project.database) as database:
        asked = {"name": name, "version": version, "alias": alias}
        return _read(project, database, name, database.execute(_NAMED, asked).fetchone())


def _read(
    project: Project, database: sqlite3.Connection, name: str, row: tuple[int, str] | None
) -> Registered | None:
    if row is None:
        return None
    if urlparse(row[1]).scheme not in (
        "",
        "file",
    ):  # the database is here, the files are in a store elsewhere
        from temper.ops.mlflow import remote_versions

        return _fetched(project, remote_versions.named(project, name, version=row[0], alias=None))
    aliases = tuple(alias for (alias,) in database.execute(_ALIASES, (name, row[0])))
    tags = dict(database.execute(_TAGS, (name, row[0])))
    return _registered(name, row[0], aliases, tags, _local(row[1]))


def _fetched(project: Project, version: Any) -> Registered | None:
    """A version whose files, and maybe MLflow itself, are elsewhere: they are fetched."""
    if version is None:
        return None
    from temper.ops.mlflow import remote_versions

    aliases = remote_versions.aliases(project, version)
    return _registered(
        version.name, int(version.version), aliases, version.tags, remote_versions.fetch(project, version)
    )


def _registered(
    name: str, version: int, aliases: tuple[str, ...], tags: Mapping[str, str], folder: Path
) -> Registered:
    try:
        beside = dict(json.loads(tags.get("files", "{}")))
    except ValueError:
        beside = {"MLmodel": "unknown"}  # the tag is damaged: not loadable until it is registered again
    return Registered(
        name, version, aliases, tags.get("digest", ""), folder / "model.onnx", "gate" in tags, beside
    )


def locate(project: Project, reference: str) -> tuple[Path, str]:
    """A file beside a registered model, and what it must hash to (SHA-256).

    Args:
        project: In whose MLflow the model is registered.
        reference: `models:/NAME@ALIAS/FILE` or `models:/NAME/VERSION/FILE`.

    Raises:
        ValueError: If there is no such model, version, alias or file; names what there is.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise ValueError(
            f"{reference!r} names no file of a version; write models:/NAME@ALIAS/FILE or models:/NAME/VERSION/FILE"
        )
    version = int(match["version"]) if match["version"] else None
    found = named(project, match["name"], version=version, alias=match["alias"])
    if found is None:
        raise ValueError(
            f"{reference!r}: {project.store} knows no such version; `make ui` shows those there are"
        )
    if match["file"] not in found.beside:
        files = (
            ", ".join(name for name in found.beside if name.endswith(".safetensors")) or "none with weights"
        )
        raise ValueError(f"{reference!r}: the version has no such file; it has {files}")
    return found.file.with_name(match["file"]), found.beside[match["file"]]


def unclosed(project: Project, flows: tuple[str, ...]) -> bool:
    """Whether MLflow or Prefect has a run of this project that says it is running, or cannot tell; asked while holding the project."""
    stand = (
        (project.database, _RUNNING, ()),
        (project.prefect_home / "prefect.db", _RUNNING_FLOWS, (json.dumps(flows),)),
    )
    for path, question, values in stand:
        if path.is_file():
            with sqlite.reading(path) as database:
                try:
                    if database.execute(question, values).fetchone()[0]:
                        return True
                except sqlite3.Error:
                    return True  # no tables yet, or damaged: whoever opens it to close records mends it
    return False


def _local(address: str) -> Path:
    """The folder an artifact address names."""
    parts = urlparse(address)
    return Path(unquote(parts.path)) if parts.scheme == "file" else Path(address)
