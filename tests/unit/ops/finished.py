"""A project with hand-made results: the artifacts of all stages, and networks of one layer."""

import csv
import json
from pathlib import Path

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper

from temper import artifacts
from temper.gate.rating import write_rating
from temper.ops.project import Project
from tests.project import make_project
from tests.unit.gate.toy_ratings import rating

CONDITIONS = {"occlusion": ("random patch", "grid"), "noise": ("gaussian",)}
SCORES = {"teacher": 0.98, "student": 0.96, "quantized": 0.95}
COLUMNS = ("candidate", "family", "condition", "severity", "metric", "value", "low", "high", "images")


def make_finished(folder: Path, *, accuracy: float = SCORES["quantized"], width: int = 4) -> Project:
    """Write every artifact and report that the registration reads."""
    project = Project.at(make_project(folder, "multiclass"))
    scores = {**SCORES, "quantized": accuracy}
    (project.artifacts / "prepare").mkdir(parents=True)
    digests = [artifacts.digest_json(number)[:32] for number in range(12)]
    names = [f"image {number}" for number in range(12)]
    splits = ["train"] * 8 + ["test"] * 4
    rows = pa.table({"id": names, "digest": digests, "split": splits, "truth": digests})
    pq.write_table(rows, project.artifacts / "prepare" / "rows.parquet")
    prepared = {"problem": {}, "examples": {"train": 8}, "counts": {"train": {"a": 4, "b": 4}}}
    prepared = _artifact(project, "prepare", prepared)
    for stage in ("train", "distill"):
        curves = "step,epoch,name,value\n1,0.5,train/loss,2.0\n2,1.0,train/loss,1.0\n"
        _artifact(project, stage, {}, {"curves.csv": curves, artifacts.WEIGHTS: f"weights of {stage}"})
    candidates = {name: {"file": f"{name}.onnx", "params": 3, "macs": 5} for name in scores}
    folder = project.artifacts / "quantize"
    folder.mkdir(parents=True)
    for number, (name, found) in enumerate(candidates.items()):
        onnx.save(make_network(width + number), folder / f"{name}.onnx")
        found |= {
            "bytes": (folder / f"{name}.onnx").stat().st_size,
            "digest": artifacts.digest_file(folder / f"{name}.onnx"),
        }
    _artifact(project, "quantize", {"candidates": candidates})
    rows, timed = [], {}
    for name, found in candidates.items():
        found["accuracy"] = {"value": scores[name], "low": scores[name] - 0.01, "high": scores[name] + 0.01}
        found["stress"] = {family: {"value": 0.5, "low": 0.4, "high": 0.6} for family in CONDITIONS}
        rows += [
            (name, family, condition, severity, "accuracy", 1 - severity / 10, 0, 1, 8)
            for family, conditions in CONDITIONS.items()
            for condition in conditions
            for severity in (1, 2, 3)
        ]
        rows.append((name, "occlusion", "mean", "", "accuracy", 0.5, 0, 1, 8))
        timed[name] = {
            "digest": found["digest"],
            "latency_ms": {"median": 0.5},
            "images_per_s": {"median": 900.0},
        }
    table = project.folder / "scores.csv"
    with table.open("w", newline="") as stream:
        csv.writer(stream).writerows([COLUMNS, *rows])
    ratings = project.artifacts / "evaluate" / "ratings"
    ratings.mkdir(parents=True)
    for name, found in candidates.items():
        measured = rating(found["digest"], scores[name], costs={"bytes": found["bytes"]})
        write_rating(ratings / f"{name}.safetensors", measured)
    _artifact(
        project,
        "evaluate",
        {
            "headline": "accuracy",
            "headline_title": "accuracy",
            "greater_is_better": True,
            "candidates": candidates,
            "constant": ["a", {"accuracy": 0.5}],
            "warnings": [],
        },
        {"scores.csv": table.read_text()},
        made_from={"prepare": prepared.digest},
    )
    (project.reports / "plots").mkdir(parents=True)
    (project.reports / "plots" / "families.png").write_bytes(b"")
    for name in ("card.html", "card.md"):
        (project.reports / name).write_text("card")
    (project.reports / "latency.json").write_text(json.dumps({"candidates": timed}))
    (project.folder / "dvc.lock").write_text(
        "stages:\n"
        + "".join(
            f"  {stage}:\n    outs:\n    - md5: {stage:x<32}.dir\n" for stage in ("prepare", "quantize")
        )
    )
    return project


def make_network(width: int) -> onnx.ModelProto:
    """Make a network that maps uint8 images to probabilities."""
    weights = numpy_helper.from_array(
        np.linspace(-1, 1, 16 * width, dtype=np.float32).reshape(16, width), "weights"
    )
    shape = numpy_helper.from_array(np.array([-1, 16]), "shape")
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["pixels", "shape"], ["rows"]),
        helper.make_node("MatMul", ["rows", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 1])
    answer = helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", width])
    graph = helper.make_graph(nodes, "network", [image], [answer], [weights, shape])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def _artifact(
    project: Project,
    stage: str,
    facts: dict,
    files: dict[str, str] | None = None,
    made_from: dict[str, str] | None = None,
) -> artifacts.Artifact:
    folder = project.artifacts / stage
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in (files or {}).items():
        (folder / name).write_text(text)
    return artifacts.write(stage, folder, made_from=made_from or {}, params="", code="", facts=facts)
