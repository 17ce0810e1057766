"""Links into MLflow's pages for what people look at first, and the columns that matter in its table of runs.

MLflow keeps the columns of a shared view in a tag of the experiment, and its pages read them from there.
"""

import json
from urllib.parse import quote

from mlflow.tracking import MlflowClient

from temper.ops.candidates import CANDIDATES
from temper.ops.mlflow.tracking_store import MINE

_VIEW = "temper"
_SHARED_VIEW = f"mlflow.sharedViewState.{_VIEW}"


def save_columns(client: MlflowClient, experiment: str, metrics: list[str]) -> None:
    """Store which metrics the linked table of runs shows as columns, beside the registered model."""
    columns = [f"metrics.`{name}`" for name in metrics]
    view = {"selectedColumns": ["attributes.`Models`", *columns]}
    client.set_experiment_tag(experiment, _SHARED_VIEW, json.dumps(view))


def find_links(client: MlflowClient, name: str, address: str) -> dict[str, str]:
    """Return the addresses of a project's main pages, by what they show; only of pages that exist.

    Args:
        client: Client of the project's MLflow.
        name: Name of the project, which is that of its experiment and its model.
        address: Address of MLflow's pages, e.g. `http://127.0.0.1:5000`.
    """
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        return {}
    pages, number = f"{address}/#", experiment.experiment_id
    view = f"?viewStateShareKey={_VIEW}" if _SHARED_VIEW in experiment.tags else ""
    found = {"runs": f"{pages}/experiments/{number}/runs{view}"}
    finished = f"tags.`{MINE}` = 'pipeline' AND attributes.status = 'FINISHED'"
    for last in client.search_runs([number], finished, max_results=1):
        children = client.search_runs([number], f"tags.`mlflow.parentRunId` = '{last.info.run_id}'")
        by_name = {run.data.tags.get(MINE): run.info.run_id for run in children}
        runs = [by_name[candidate] for candidate in CANDIDATES if candidate in by_name]
        if runs:
            asked = f"runs={quote(json.dumps(runs))}&experiments={quote(json.dumps([number]))}"
            found["candidates of the last run"] = f"{pages}/compare-runs?{asked}"
    if client.search_registered_models(f"name = '{name}'", max_results=1):
        found["registered model"] = f"{pages}/models/{quote(name, safe='')}"
    return found
