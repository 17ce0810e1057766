"""MLflow's artifacts and DVC's remote in an S3 store: moto's server on loopback."""

import functools
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from tests.project import copy_project, free_port, tell

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900), pytest.mark.enable_socket]
NAME = "toys-multiclass"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """The variables for reaching a store with two empty buckets."""
    import boto3

    port = free_port()
    found = {
        "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
        "AWS_SECRET_ACCESS_KEY": secrets.token_hex(20),
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "MLFLOW_S3_ENDPOINT_URL": f"http://127.0.0.1:{port}",
        "TEMPER_ARTIFACT_URI": "s3://models/temper",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with (
        (tmp_path / "store.log").open("wb") as log,
        subprocess.Popen(command, stdout=log, stderr=log) as server,
    ):
        try:
            until = time.monotonic() + 60
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    break
                except OSError:
                    assert server.poll() is None and time.monotonic() < until, (
                        tmp_path / "store.log"
                    ).read_text()
                    time.sleep(0.2)
            for bucket in ("models", "data"):
                boto3.client("s3").create_bucket(Bucket=bucket)
            yield found
        finally:
            server.terminate()


def dvc(project: Path, *arguments: str) -> None:
    environment = {**os.environ, **Project.at(project).environment()}
    subprocess.run(["dvc", *arguments], cwd=project, env=environment, check=True, capture_output=True)


def test_models_and_data_in_a_store_elsewhere(
    environment: dict[str, str], prefect_server: dict[str, str], finished: Path, tmp_path: Path
):
    import boto3

    project, store = copy_project(finished, tmp_path / "project"), boto3.client("s3")
    run = functools.partial(tell, project, environment=prefect_server)
    # Where a registry is begun anew, the finished model is registered again.
    shutil.rmtree(project / "mlruns")
    said = run("pipeline")
    assert f"version 1 of {NAME} (challenger, champion): bootstrap" in said
    assert "nothing to do" in run("pipeline")
    kept = store.list_objects_v2(Bucket="models", Prefix="temper/")["Contents"]
    model = next(each["Key"] for each in kept if each["Key"].endswith("model.onnx"))
    assert not list((project / "mlruns").rglob("model.onnx"))
    shutil.rmtree(project / ".temper" / "versions", ignore_errors=True)
    found = model_versions.named(Project.at(project), NAME, alias="champion")
    assert found is not None and found.whole and found.loadable, "fetched again"

    dvc(project, "remote", "add", "-d", "store", "s3://data/dvc")
    dvc(project, "push")
    shutil.rmtree(project / ".dvc" / "cache")
    said += run("reproduce", "1")
    assert "version 1 was made again" in said and "the same digest" in said

    damaged = store.get_object(Bucket="models", Key=model)["Body"].read() + b"x"
    store.put_object(Bucket="models", Key=model, Body=damaged)
    text = (project / "params.yaml").read_text()
    (project / "params.yaml").write_text(text.replace("calibration_images: 64", "calibration_images: 16"))
    said += run("pipeline")
    assert f"version 2 of {NAME} (challenger, champion): pass" in said
    for folder in ("versions", "ratings"):
        shutil.rmtree(project / ".temper" / folder)
    said += run("compare", "--first", "1", "--second", "2", code=2)
    assert f"version 1 of {NAME} cannot be evaluated" in said and "missing or damaged" in said
    said += run("promote", "--version", "1", "--reason", "it is the older one", code=2)
    assert "is not the file that was registered" in said

    files = [path for path in project.rglob("*") if path.is_file() and path.stat().st_size < 50e6]
    for secret in (environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]):
        assert secret not in said
        assert not [path for path in files if secret.encode() in path.read_bytes()], "a file contains a key"
