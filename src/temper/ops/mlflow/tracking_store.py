"""MLflow's store of a project: opened, made if there is none, and freed of runs whose process is dead."""

import logging
import os

from mlflow import set_experiment
from mlflow.tracking import MlflowClient, set_tracking_uri

from temper.ops.project import Project
from temper.ops.system.process_identity import Owner

MINE = "temper.run"
"""Tag of the runs that a pipeline makes; its value is `pipeline` or the candidate's name."""
OWNER = "temper.owner"
"""Tag that says which process writes to a run."""


_LOUD = {
    "alembic": logging.WARNING,
    # What it logs with a traceback it raises as well, and what it raises we say in a paragraph.
    "mlflow.store.db.utils": logging.CRITICAL,
    # The machine's load could not be written, told with a page of SQL: the next thing that matters will say so.
    "mlflow.system_metrics.system_metrics_monitor": logging.CRITICAL,
}


def connect(project: Project) -> MlflowClient:
    """MLflow on the project's own store; makes the database if there is none, which takes seconds."""
    for name, level in _LOUD.items():
        logging.getLogger(name).setLevel(level)
    if project.elsewhere is None and not project.database.is_file():
        _make_database(project)
    set_tracking_uri(project.tracking_uri)
    return MlflowClient(project.tracking_uri)


def _make_database(project: Project) -> None:
    """Make an empty database under another name first: MLflow cannot go on with one whose making was cut off."""
    project.runs.mkdir(parents=True, exist_ok=True)
    for left in project.runs.glob(f".{project.database.name}.*"):
        left.unlink()
    temporary = project.database.with_name(f".{project.database.name}.{os.getpid()}")
    MlflowClient(f"sqlite:///{temporary}").search_experiments(max_results=1)
    temporary.replace(project.database)


def open_experiment(client: MlflowClient, project: Project, name: str) -> str:
    """The experiment's id; made with its artifact folder inside the project if there is none."""
    found = client.get_experiment_by_name(name)
    if found is None:
        # The tag makes the pages open on training runs instead of on conversations with language models.
        made = client.create_experiment(
            name, project.files, tags={"mlflow.experimentKind": "custom_model_development"}
        )
        found = client.get_experiment(made)
    elif found.lifecycle_stage == "deleted":
        client.restore_experiment(found.experiment_id)
    # Logging a model looks at the experiment of the moment, not at that of the run it is given.
    set_experiment(experiment_id=found.experiment_id)
    return str(found.experiment_id)


def close_dead(client: MlflowClient, experiment: str) -> int:
    """Mark this pipeline's runs that still say RUNNING, though their process is dead, as killed.

    Returns:
        How many there were.
    """
    running = client.search_runs([experiment], f"attributes.status = 'RUNNING' AND tags.`{MINE}` LIKE '%'")
    owners = {run.info.run_id: Owner.read(run.data.tags.get(OWNER)) for run in running}
    dead = [run for run, owner in owners.items() if owner is None or owner.dead]
    for run in dead:
        client.set_terminated(run, "KILLED")
    return len(dead)
