"""Links into MLflow's pages."""

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from temper.config import load
from temper.ops.mlflow import page_links, tracking_store
from temper.ops.project import Project
from tests.unit.ops.registering import run_once

PAGES = "http://127.0.0.1:5000"


pytestmark = pytest.mark.filterwarnings("default")  # MLflow raises warnings of its own


def test_links_lead_to_runs_candidates_and_the_model_once_they_exist(project: Project):
    params = load(project.folder)
    client = tracking_store.connect(project)
    assert page_links.find_links(client, "never-ran", PAGES) == {}
    assert list(page_links.find_links(client, params.project, PAGES)) == ["runs"]

    record, _, _ = run_once(project, params)
    found = page_links.find_links(client, params.project, PAGES)
    assert list(found) == ["runs", "candidates of the last run", "registered model"]
    assert found["registered model"] == f"{PAGES}/#/models/{params.project}"

    asked = parse_qs(urlsplit(urlsplit(found["candidates of the last run"]).fragment).query)
    assert json.loads(asked["runs"][0]) == [
        record.children[name] for name in ("teacher", "student", "quantized")
    ]
    assert json.loads(asked["experiments"][0]) == [record.experiment]

    [key] = parse_qs(urlsplit(urlsplit(found["runs"]).fragment).query)["viewStateShareKey"]
    view = json.loads(client.get_experiment(record.experiment).tags[f"mlflow.sharedViewState.{key}"])
    for metric in ("accuracy", "stress/noise", "bytes", "latency_ms"):
        assert f"metrics.`{metric}`" in view["selectedColumns"]
