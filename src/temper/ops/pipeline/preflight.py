"""The checks before a run, and the repair of files that killed runs left damaged.

All of them are quick and import neither Prefect nor MLflow. An error that a user can fix is a ValueError with
one paragraph.
"""

import shutil
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

from temper import artifacts
from temper.config import FILE as PARAMS_FILE
from temper.config import Params, registered_weights
from temper.config import load as load_params
from temper.ops import dvc, dvc_repair
from temper.ops.mlflow import backup, model_versions
from temper.ops.project import Project

MIN_FREE_BYTES = 1 << 30
"""Free disk space below which no run starts: it would fail half-way and fill the disk for others too."""


def preflight(project: Project, *, dry_run: bool = False) -> tuple[Params, list[str]]:
    """Check a project before anything starts, and bring its dvc.yaml up to date.

    Args:
        project: Project to check.
        dry_run: Nothing will run, so leave out the checks and repairs that only a run needs.

    Returns:
        The parameters, and a line for everything that was changed.

    Raises:
        ValueError: If the user must fix something first; names the problem and the way out.
    """
    params = load_params(project.folder)
    messages = []
    if not dry_run:
        check_space(project)
        check_writable(project)
        if repaired := dvc_repair.repair_lock(project):
            messages.append(repaired)
    backup.check(project)
    if dvc.prepare(project):
        messages.append(f"{project.folder} was in no DVC repository; made it one (.dvc)")
    if not dry_run and (repaired := dvc_repair.repair_register(project)):
        messages.append(repaired)
    if not dry_run:
        messages += fetch_weights(project, params)
    if written := dvc.write_dvc_yaml(project, params):
        messages.append(written)
    return params, messages


def changed_params(project: Project, params: Params) -> str | None:
    """Return an error message if params.yaml no longer has the values with which the run started.

    DVC would run the next stage with the new values, while MLflow recorded the old ones.

    Returns:
        A paragraph; None if no value changed.
    """
    try:
        if load_params(project.folder) == params:
            return None
        change = "changed during the run"
    except ValueError as error:
        change = f"changed during the run and is invalid now ({error})"
    return (
        f"{project.folder / PARAMS_FILE} {change}, so the run was stopped: the remaining stages would use "
        "the new values while MLflow recorded the old ones. Finished stages are kept; run the same command "
        "again"
    )


def check_rules(project: Project, params: Params) -> None:
    """Refuse gate rules on classes or conditions that the dataset does not have.

    Call it when `prepare` is up to date.

    Raises:
        ValueError: If there is such a rule, which is named with the possible values; if the artifact of
            `prepare` is missing or damaged.
    """
    facts = artifacts.load("prepare", project.artifacts / "prepare", check_files=False).facts
    try:
        strata = [name for name, count in facts["counts"]["test"].items() if count]
        params.check_rules(strata=strata, channels=_channels(facts["inputs"]))
    except ValueError as error:
        raise ValueError(f"{project.folder / PARAMS_FILE}: {error}") from None


def _channels(inputs: Sequence[Mapping[str, Any]]) -> int:
    """Return the channels of the images; 3 if there are none, for which no condition is measured."""
    return next((each["channels"] for each in inputs if "channels" in each), 3)


def fetch_weights(project: Project, params: Params) -> list[str]:
    """Copy the initial weights of a training from MLflow, if they are those of a registered version.

    They are copied to the file that DVC watches and that a stage reads. An alias may have moved since the
    last run, so it is resolved before every run. If it moved, the file changes and with it its digest in DVC.

    Returns:
        A line for each new file.

    Raises:
        ValueError: If a file of the version is missing or damaged.
    """
    messages = []
    for reference, name in registered_weights(params).items():
        source, sha256 = model_versions.locate(project, reference)
        target = project.folder / name
        if target.is_file() and artifacts.digest_file(target) == sha256:
            continue
        if not source.is_file() or artifacts.digest_file(source) != sha256:
            raise ValueError(
                f"{reference}: {source} is missing or damaged; name another version in transfer.weights"
            )
        target.parent.mkdir(parents=True, exist_ok=True)
        artifacts.write_atomically(target, source.read_bytes())
        messages.append(f"fetched {reference} ({sha256[:12]})")
    return messages


def check_space(project: Project, least_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise ValueError if the project's disk is nearly full."""
    free = shutil.disk_usage(project.folder).free
    if free < least_bytes:
        raise ValueError(
            f"only {free / 2**30:.2f} GiB are free on the disk of {project.folder}, but a run needs "
            f"{least_bytes / 2**30:.1f}; free some space and run the same command again"
        )


def check_writable(project: Project) -> None:
    """Raise ValueError if a folder that a run writes to cannot be written to."""
    for folder in (project.folder, project.artifacts, project.hidden, project.reports, project.runs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ValueError(f"cannot write to {folder}: {artifacts.explain(error)}") from error
