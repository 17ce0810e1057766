"""MLflow's store of a project: opens it, creates it if it is missing, closes runs whose process is dead."""

import logging
import os

from mlflow import set_experiment
from mlflow.tracking import MlflowClient, set_tracking_uri

from temper.ops.project import Project
from temper.ops.system.process_identity import Owner

MINE = "temper.run"
"""Tag of the runs that a pipeline creates; its value is `pipeline` or the candidate's name."""
OWNER = "temper.owner"
"""Tag with the process that writes to a run."""

_LOG_LEVELS = {
    "alembic": logging.WARNING,
    # It raises every error that it logs with a traceback, and we print the raised error as a paragraph.
    "mlflow.store.db.utils": logging.CRITICAL,
    # It reports with a page of SQL that the machine's load could not be written. The next failure that
    # matters is reported anyway.
    "mlflow.system_metrics.system_metrics_monitor": logging.CRITICAL,
}


def connect(project: Project) -> MlflowClient:
    """Connect to the project's MLflow store; creates a missing database first, which takes seconds."""
    for name, level in _LOG_LEVELS.items():
        logging.getLogger(name).setLevel(level)
    if project.elsewhere is None and not project.database.is_file():
        _make_database(project)
    set_tracking_uri(project.tracking_uri)
    return MlflowClient(project.tracking_uri)


def _make_database(project: Project) -> None:
    """Create an empty database under a temporary name and rename it.

    MLflow cannot use a database whose creation was interrupted.
    """
    project.runs.mkdir(parents=True, exist_ok=True)
    for leftover in project.runs.glob(f".{project.database.name}.*"):
        leftover.unlink()
    temporary = project.database.with_name(f".{project.database.name}.{os.getpid()}")
    MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
    temporary.replace(project.database)


def open_experiment(client: MlflowClient, project: Project, name: str) -> str:
    """Return the id of an experiment; creates it if it is missing, with its files at `project.files`."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # With this tag, MLflow's pages open on training runs, not on conversations with language models.
        made = client.create_experiment(
            name, project.files, tags={"mlflow.experimentKind": "custom_model_development"}
        )
        found = client.get_experiment(made)
    elif found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    # When a model is logged, MLflow uses the active experiment, not the experiment of the given run.
    set_experiment(experiment_id=found.experiment_id)
    return str(found.experiment_id)


def close_dead(client: MlflowClient, experiment: str) -> int:
    """Mark this pipeline's runs as killed whose status is RUNNING although their process is dead.

    Returns:
        Number of such runs.
    """
    running = client.search_runs([experiment], f"attributes.status = 'RUNNING' AND tags.`{MINE}` LIKE '%'")
    owners = {run.info.run_id: Owner.read(run.data.tags.get(OWNER)) for run in running}
    dead = [run for run, owner in owners.items() if owner is None or owner.dead]
    for run in dead:
        client.set_terminated(run, "KILLED")
    return len(dead)
