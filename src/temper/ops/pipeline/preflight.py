"""Before a run: is everything in place; and after runs that died: clear away what they left.

All of it is quick and imports neither Prefect nor MLflow; what a user can mend is a ValueError of one paragraph.
"""

import shutil
import tempfile

from temper import artifacts
from temper.config import FILE as PARAMS_FILE
from temper.config import Params, registered_weights
from temper.config import load as load_params
from temper.ops import dvc, dvc_repair
from temper.ops.mlflow import backup, model_versions
from temper.ops.project import Project

MIN_FREE_BYTES = 1 << 30
"""Below this a run does not start: it would stop half-way, with the disk full for everyone else too."""


def preflight(project: Project, *, look: bool = False) -> tuple[Params, list[str]]:
    """Check a project before anything is started, and bring its dvc.yaml up to date.

    Args:
        project: Whose folder it is.
        look: Nothing will run: leave out what only a run needs.

    Returns:
        Its parameters, and a line for everything that was changed on the way.

    Raises:
        ValueError: If something must be mended first; names it, and the way out.
    """
    params = load_params(project.folder)
    said = []
    if not look:
        check_space(project)
        check_writable(project)
        if healed := dvc_repair.repair_lock(project):
            said.append(healed)
    backup.check(project)
    if dvc.prepare(project):
        said.append(f"{project.folder} lies in no DVC repository: made it one (.dvc)")
    if not look and (healed := dvc_repair.repair_register(project)):
        said.append(healed)
    if not look:
        said += fetch_weights(project, params)
    if wrote := dvc.write_dvc_yaml(project, params):
        said.append(wrote)
    return params, said


def changed_params(project: Project, params: Params) -> str | None:
    """What to say if params.yaml is not what a run began with: DVC would run the next stage by it, and MLflow knows the old one.

    Returns:
        A paragraph; None if nothing that matters was changed.
    """
    try:
        if load_params(project.folder) == params:
            return None
        changed = "was edited"
    except ValueError as error:
        changed = f"was edited and is at fault ({error})"
    return (
        f"{project.folder / PARAMS_FILE} {changed} while this run went on; it ends here, since the stages left would follow the new file and the "
        "records the old one. What was made is kept: run the same command again"
    )


def check_rules(project: Project, params: Params) -> None:
    """Refuse rules of the gate on classes or conditions that the data do not have; `prepare` must be up to date.

    Raises:
        ValueError: Names the rule, the value, and what there is.
    """
    facts = artifacts.load("prepare", project.artifacts / "prepare", check_files=False).facts
    try:
        strata = [name for name, count in facts["counts"]["test"].items() if count]
        params.check_rules(strata=strata, channels=facts["facts"]["channels"])
    except ValueError as error:
        raise ValueError(f"{project.folder / PARAMS_FILE}: {error}") from None


def fetch_weights(project: Project, params: Params) -> list[str]:
    """Lay what training starts from, where that is a version in MLflow, where DVC watches it and a stage reads it.

    An alias may have moved since, so it is looked up before every run; what it names now is in the file, whose digest DVC knows.

    Returns:
        A line for each file that is new.
    """
    said = []
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
        said.append(f"fetched {reference} ({sha256[:12]})")
    return said


def check_space(project: Project, least_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise ValueError if the project's disk is nearly full."""
    free = shutil.disk_usage(project.folder).free
    if free < least_bytes:
        raise ValueError(
            f"only {free / 2**30:.2f} GiB are free on the disk of {project.folder}, a run needs {least_bytes / 2**30:.1f}; "
            "free some and run it again"
        )


def check_writable(project: Project) -> None:
    """Raise ValueError if a folder that a run writes to cannot be written to."""
    for folder in (project.folder, project.artifacts, project.hidden, project.reports, project.runs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ValueError(f"cannot write to {folder}: {artifacts.explain(error)}") from error
