"""MLflow on a separate database: readable runs, versions that are made once, aliases that follow the gate."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from temper import artifacts
from temper.config import load, parse, registered_weights
from temper.ops import candidates, dvc
from temper.ops.mlflow import model_versions, tracking_store
from temper.ops.mlflow.run_logger import Record, flatten, legal
from temper.ops.mlflow.tracking_store import close_dead
from temper.ops.pipeline import plan, preflight, summary
from temper.ops.project import Project
from temper.ops.system.process_identity import Owner
from temper.stages.dvc_yaml import dvc_yaml
from tests.unit.ops.registering import run_once, swap_model

pytestmark = [
    # MLflow and its imports warn about Python 3.11 and about each other.
    pytest.mark.filterwarnings("default"),
]


def test_a_model_is_registered_once_and_can_be_used(project: Project):
    params = load(project.folder)
    assert plan.unregistered(project, params)
    record, version, reason = run_once(project, params)
    assert (version.version, version.aliases) == (1, ("challenger", "champion"))
    assert version.finished and version.whole
    assert "there was no champion" in reason
    assert not plan.unregistered(project, params)

    file = project.artifacts / "quantize" / "quantized.onnx"
    assert artifacts.digest_file(version.file) == artifacts.digest_file(file) == version.digest

    import mlflow

    loaded = mlflow.pyfunc.load_model(f"models:/{params.project}@champion")
    image = np.full((2, 4, 4, 1), 7, np.uint8)
    said = onnxruntime.InferenceSession(file).run(None, {"image": image})[0]
    assert np.array_equal(loaded.predict({"image": image})["probabilities"], said)
    assert loaded.metadata.signature.inputs.inputs[0].shape == (-1, -1, -1, 1)
    assert mlflow.onnx.load_model(f"models:/{params.project}/1").graph.input[0].name == "image"

    found = record.client.get_model_version(params.project, "1")
    assert found.run_id == record.children["quantized"]
    assert found.tags["digest"] == version.digest
    assert found.tags["data"] == dvc.out_digest(project, "prepare")
    assert found.tags["candidate"] == "quantized"

    again, same, reason = run_once(project, params)
    assert (same, reason) == (version, "it was registered before")
    assert len(again.client.search_model_versions(f"name = '{params.project}'")) == 1


def test_the_catalogue_agrees_with_mlflows_client(project: Project):
    params = load(project.folder)
    record, version, _ = run_once(project, params)
    assert model_versions.find(project, params.project, version.digest) == version
    assert model_versions.find(project, params.project, "0" * 64) is None
    assert model_versions.find(project, "another", version.digest) is None
    record.client.delete_registered_model_alias(params.project, "champion")
    found = model_versions.find(project, params.project, version.digest)
    assert found is not None and found.aliases == ("challenger",)
    record.client.delete_model_version(params.project, "1")
    assert model_versions.find(project, params.project, version.digest) is None


def test_the_champion_stays_where_the_challenger_is_worse(project: Project, tmp_path: Path):
    params = load(project.folder)
    run_once(project, params)
    swap_model(project, tmp_path, accuracy=0.90, width=7)
    record, worse, reason = run_once(project, params)
    assert (worse.version, worse.aliases) == (2, ("challenger",))
    assert reason.startswith(
        "fail: accuracy on all test images not worse than the champion's by more than 0.05: -0.0495"
    )
    assert str(record.client.get_model_version_by_alias(params.project, "champion").version) == "1"
    swap_model(project, tmp_path, accuracy=0.95, width=11)
    assert run_once(project, params)[1].aliases == ("challenger", "champion")


def test_a_registration_that_was_cut_off_is_finished(project: Project):
    params = load(project.folder)
    record, version, _ = run_once(project, params)
    record.client.delete_model_version_tag(params.project, "1", "gate")
    record.client.delete_registered_model_alias(params.project, "champion")
    assert plan.unregistered(project, params) == (f"version 1 of {params.project} is unfinished",)
    assert run_once(project, params)[1] == version


@pytest.mark.parametrize("how", ["lost", "damaged"])
def test_a_lost_or_damaged_file_is_put_back(project: Project, how: str):
    params = load(project.folder)
    _, version, _ = run_once(project, params)
    whole = version.file.read_bytes()
    if how == "lost":
        version.file.unlink()
    else:
        version.file.write_bytes(whole[:100] + b"x" + whole[101:])
    assert plan.unregistered(project, params) == (
        f"a file of version 1 of {params.project} is missing or damaged",
    )
    assert run_once(project, params)[1].version == 1
    assert version.file.read_bytes() == whole
    assert not plan.unregistered(project, params)


def test_what_mlflow_wrote_beside_it_is_watched_too(project: Project):
    params = load(project.folder)
    _, version, _ = run_once(project, params)
    assert "MLmodel" in version.beside
    version.file.with_name("MLmodel").write_text("nonsense")
    assert plan.unregistered(project, params)
    assert run_once(project, params)[1].version == 2
    assert not plan.unregistered(project, params)


def test_a_file_that_was_not_evaluated_is_not_registered(project: Project):
    params = load(project.folder)
    (project.artifacts / "quantize" / "quantized.onnx").write_bytes(b"something else")
    with pytest.raises(ValueError, match="not the file that was evaluated"):
        run_once(project, params)
    assert (
        model_versions.find(project, params.project, candidates.read(project)["quantized"]["digest"]) is None
    )


def test_runs_read_well(project: Project):
    params = load(project.folder)
    record, _, _ = run_once(project, params)
    runs = {run.info.run_name: run for run in record.client.search_runs([record.experiment])}
    parent = runs.pop("2026-01-01 00:00:00")
    assert set(runs) == {"teacher", "student", "quantized, version 1"}
    assert all(run.data.tags["mlflow.parentRunId"] == parent.info.run_id for run in runs.values())
    assert all(run.info.status == "FINISHED" for run in (parent, *runs.values()))
    wanted = {
        "accuracy",
        "stress/occlusion",
        "stress/noise",
        "occlusion/random_patch/severity_3",
        "bytes",
        "macs",
        "latency_ms",
    }
    for run in runs.values():
        assert wanted <= set(run.data.metrics)
        assert run.inputs.dataset_inputs[0].dataset.digest == dvc.out_digest(project, "prepare")
    assert parent.data.params["train.fit.epochs"] == runs["teacher"].data.params["fit.epochs"] == "2"
    curve = record.client.get_metric_history(runs["teacher"].info.run_id, "train/loss")
    assert [(point.step, point.value) for point in curve] == [(1, 2.0), (2, 1.0)]
    severity = record.client.get_metric_history(runs["teacher"].info.run_id, "occlusion/random_patch")
    assert [point.step for point in severity] == [1, 2, 3]
    names = {item.path for item in record.client.list_artifacts(parent.info.run_id)}
    assert names == {"card.html", "card.md", "latency.json", "plots"}
    names = {item.path for item in record.client.list_artifacts(runs["quantized, version 1"].info.run_id)}
    assert {"gate", "made-from", "promotion"} <= names


def test_a_training_is_followed_and_a_failure_closes_its_runs(project: Project):
    params = load(project.folder)
    record = Record(project, params, "live")
    record.begin()
    work = project.hidden / "work" / "train"
    work.mkdir(parents=True)
    with record.training("train"):
        (work / "journal.jsonl").write_text(
            '{"step": 1, "epoch": 1, "values": {"train/loss": 2.0}, "time": 1.0}\n'
        )
    record.finish_child("train")
    curve = record.client.get_metric_history(record.children["teacher"], "train/loss")
    assert [(point.step, point.timestamp == 1000) for point in curve] == [(1, True), (2, False)]
    record.child("student")
    record.end("FAILED", "no luck")
    status = {
        name: record.client.get_run(run) for name, run in {**record.children, "parent": record.parent}.items()
    }
    assert {name: run.info.status for name, run in status.items()} == {
        "teacher": "FINISHED",
        "student": "FAILED",
        "parent": "FAILED",
    }
    assert status["parent"].data.tags["error"] == "no luck"


def test_dead_runs_are_closed(project: Project):
    record = Record(project, load(project.folder), "dead")
    run = record.begin()
    assert close_dead(record.client, record.experiment) == 0, "its process is this one, alive"
    me = Owner.me()
    record.client.set_tag(run, tracking_store.OWNER, str(replace(me, host="elsewhere")))
    assert close_dead(record.client, record.experiment) == 0, "a process on another host counts as alive"
    record.client.set_tag(run, tracking_store.OWNER, str(replace(me, started="1")))
    assert close_dead(record.client, record.experiment) == 1, "another process has the process id now"
    assert record.client.get_run(run).info.status == "KILLED"
    record.client.update_run(run, "RUNNING")
    record.client.set_tag(run, tracking_store.OWNER, str(replace(me, boot="before the last boot")))
    assert Record(project, load(project.folder), "next").reaped == 1


def test_what_was_cut_off_is_linked_with_what_went_on(project: Project):
    params = load(project.folder)
    first = Record(project, params, "first")
    first.begin()
    first.end("KILLED", "interrupted")
    second = Record(project, params, "second")
    after = second.begin()
    runs = second.client.search_runs([second.experiment])
    tags = {run.info.run_name: run.data.tags for run in runs}
    assert tags["second"]["temper.continues"] == first.parent
    assert tags["first"]["temper.continued_by"] == after
    second.child("quantized")
    second.end("FINISHED")
    third = Record(project, params, "third")
    assert "temper.continues" not in third.client.get_run(third.begin()).data.tags


def test_the_summary(project: Project):
    params = load(project.folder)
    _, version, _ = run_once(project, params)
    summary.note_seconds(project, "train", 12.34)
    summary.note_seconds(project, "distill", 1.0)
    found = summary.make(project, params, version)
    names = ["project", "headline", "headline_title", "data", "candidates", "warnings", "registered"]
    names += ["seconds", "versions"]
    assert list(found) == names
    assert list(found["candidates"]) == ["teacher", "student", "quantized"]
    assert found["candidates"]["quantized"]["accuracy"]["value"] == 0.95
    assert found["candidates"]["quantized"]["latency_ms"] == 0.5
    assert found["registered"]["aliases"] == ["challenger", "champion"]
    assert found["seconds"] == {"train": 12.3, "distill": 1.0, "total": 13.3}
    assert found["data"]["counts"] == {"train": {"a": 4, "b": 4}}
    # Truncated, as by a full disk: unknown durations are left out, and the next step is noted.
    path = project.hidden / "seconds.json"
    path.write_text(path.read_text()[:20])
    assert summary.make(project, params, version)["seconds"] == {"total": 0}
    summary.note_seconds(project, "distill", 2.0)
    assert summary.make(project, params, version)["seconds"] == {"distill": 2.0, "total": 2.0}
    latency = project.reports / "latency.json"
    latency.write_text(latency.read_text()[:20])
    with pytest.raises(
        ValueError, match=r"latency\.json is damaged .*; delete it and run `make pipeline PROJECT=.*` again"
    ):
        summary.make(project, params, version)


@pytest.mark.parametrize(
    ("tree", "flat"),
    [
        ({"a": {"b": 1, "c": [1, 2]}}, {"a.b": "1", "a.c": "1, 2"}),
        ({"a": []}, {"a": "none"}),
        ({"a": None, "b": {}}, {"a": "None", "b": "{}"}),
        ({"policy": [{"name": "Blur"}]}, {"policy": '[{"name": "Blur"}]'}),
    ],
)
def test_parameters_are_flat(tree, flat):
    assert flatten(tree) == flat


@pytest.mark.parametrize(
    ("name", "said"), [("t-shirt (top)", "t-shirt _top_"), ("a//b/", "a/b"), ("é", "_"), ("", "_")]
)
def test_names_are_legal(name: str, said: str):
    assert legal(name) == said


def test_sizes_for_people():
    assert (summary.say_bytes(1_234_567), summary.say_bytes(512)) == ("1.2 MB", "0.5 kB")
    assert (summary.say_count(20_000_000), summary.say_count(3_034_368_000), summary.say_count(7)) == (
        "20.0 M",
        "3.0 G",
        "7",
    )


def test_the_networks_behind_a_version_can_be_started_from(project: Project):
    params = load(project.folder)
    run_once(project, params)
    name = params.project
    digest = artifacts.digest_file(project.artifacts / "train" / artifacts.WEIGHTS)
    for reference in (
        f"models:/{name}@champion/teacher.safetensors",
        f"models:/{name}/1/teacher.safetensors",
    ):
        text = (
            (project.folder / "params.yaml")
            .read_text()
            .replace("train:\n", f"train:\n  transfer: {{weights: '{reference}'}}\n")
        )
        asking = parse(text)
        assert preflight.fetch_weights(project, asking) == [f"fetched {reference} ({digest[:12]})"]
        laid = project.folder / registered_weights(asking)[reference]
        assert laid.read_text() == "weights of train"
        assert preflight.fetch_weights(project, asking) == []
        assert f"artifacts/weights/{reference.removeprefix('models:/')}" in dvc_yaml(project.folder, asking)
        laid.write_text("scribbled over")
        assert len(preflight.fetch_weights(project, asking)) == 1
    for wrong, message in (
        (f"models:/{name}@nobody/teacher.safetensors", "@nobody.*no such model version"),
        (f"models:/{name}/7/teacher.safetensors", "/7/.*no such model version"),
        ("models:/another@champion/teacher.safetensors", "another@.*no such model version"),
        (f"models:/{name}@champion/quantized.safetensors", "it has student.safetensors, teacher.safetensors"),
        (f"models:/{name}@champion", "write models:/NAME@ALIAS/FILE"),
        (f"models:/{name}@champion/../../teacher.safetensors", "write models:/NAME@ALIAS/FILE"),
    ):
        with pytest.raises(ValueError, match=message):
            model_versions.locate(project, wrong)
