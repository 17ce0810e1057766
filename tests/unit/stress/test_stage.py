"""The stage `evaluate` and the measurement of latency, from hand-made artifacts to a card."""

import csv
import hashlib
import json
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper, save

from temper import artifacts
from temper.commands.latency import measure
from temper.data.dataset.packed import write_table
from temper.problems import dump
from temper.stages.evaluate import run
from temper.stress.params import EvaluateParams
from tests.toy import TOYS, Toy

NO_LINEAGE = {"made_from": {}, "params": "", "code": ""}
PARAMS = SimpleNamespace(
    seed=0, evaluate=EvaluateParams(stress_images=8, bootstrap=50, batch_size=7, families=("noise",))
)


ANSWERS = {
    "multiclass": [
        ("GlobalAveragePool", {}, "pooled"),
        ("Flatten", {}, "flat"),
        ("Softmax", {"axis": 1}, "probabilities"),
    ],
    "multilabel": [
        ("GlobalAveragePool", {}, "pooled"),
        ("Flatten", {}, "flat"),
        ("Sigmoid", {}, "probabilities"),
    ],
    "segmentation": [("ArgMax", {"axis": 1, "keepdims": 0}, "classes")],
    "regression": [
        ("Slice", {}, "two"),
        ("GlobalAveragePool", {}, "pooled"),
        ("Flatten", {}, "values"),
    ],
    "keypoints": [
        ("GlobalAveragePool", {}, "pooled"),
        ("Flatten", {}, "flat"),
        ("Sigmoid", {}, "confidence"),
        ("Unsqueeze", {}, "column"),
        ("Concat", {"axis": 2}, "points"),
    ],
}
"""Kind -> nodes that turn a map of three logits into an answer. The chain tries kinds that need more."""
OUTPUTS = {
    "multiclass": {"probabilities": ["N", 3]},
    "multilabel": {"probabilities": ["N", 3]},
    "segmentation": {"classes": ["N", "H", "W"]},
    "regression": {"values": ["N", 2]},
    "keypoints": {"points": ["N", 3, 2], "confidence": ["N", 3]},
}
"""Kind -> shapes of its answer."""
MORE = {"Slice": ["start", "stop", "axis"], "Unsqueeze": ["stop"], "Concat": ["column"]}
"""Node -> its inputs beside the node before it."""


def write_network(path: Path, kind: str, seed: int) -> None:
    """Write a file that answers like a deployed one: a random convolution and the read-out.

    This is faster than an export.
    """
    kernel = np.random.default_rng(seed).normal(0, 0.02, (3, 3, 3, 3)).astype(np.float32)
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["planes", "kernel"], ["logits"], pads=[1, 1, 1, 1]),
    ]
    before = "logits"
    for kind_of_node, attributes, after in ANSWERS[kind]:
        inputs = [before, *MORE.get(kind_of_node, [])]
        nodes.append(helper.make_node(kind_of_node, inputs, [after], **attributes))
        before = after
    element = TensorProto.INT64 if kind == "segmentation" else TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "toy",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 3])],
        [helper.make_tensor_value_info(name, element, shape) for name, shape in OUTPUTS[kind].items()],
        [
            numpy_helper.from_array(kernel, "kernel"),
            *(
                numpy_helper.from_array(np.array([number]), name)
                for name, number in (("start", 0), ("stop", 2), ("axis", 1))
            ),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(model, {"temper.candidate": path.stem})
    save(model, path)


def make_inputs(project: Path, toy: Toy) -> dict[str, artifacts.Artifact]:
    """Write artifacts of prepare and quantize like those of the real stages, with random networks."""
    prepare, quantize = project / "artifacts" / "prepare", project / "artifacts" / "quantize"
    inputs, targets = toy.batch(20)
    (prepare / "test").mkdir(parents=True)
    quantize.mkdir()
    columns = {name: value.numpy() for name, value in targets.items()}
    np.save(prepare / "test" / "image.npy", inputs["image"].permute(0, 2, 3, 1).numpy())
    for name, value in columns.items():
        np.save(prepare / "test" / f"{name}.npy", value)
    strata = [
        sorted(toy.problem.strata({name: value[i] for name, value in columns.items()})) for i in range(20)
    ]
    write_table(
        prepare / "rows.parquet",
        {
            "split": ["test"] * 20,
            "index": list(range(20)),
            "strata": strata,
            "group": [None] * 20,
            "id": [f"toy-{i}" for i in range(20)],
        },
    )
    counts = dict(Counter(name for names in strata for name in names))
    facts = {
        "problem": dump(toy.problem),
        "inputs": [{"input": "image", "height_px": 12, "width_px": 12, "channels": 3}],
        "examples": {"train": 30, "validation": 10, "test": 20},
        "counts": dict.fromkeys(("train", "validation", "test"), counts),
    }
    found = {}
    for number, name in enumerate(("teacher", "student", "quantized")):
        path = quantize / f"{name}.onnx"
        write_network(path, toy.problem.kind, seed=number)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        found[name] = {
            "file": path.name,
            "bytes": path.stat().st_size,
            "params": 81,
            "macs": 81 * 144,
            "digest": digest,
        }
    return {
        "prepare": artifacts.write("prepare", prepare, facts=facts, **NO_LINEAGE),
        "quantize": artifacts.write("quantize", quantize, facts={"candidates": found}, **NO_LINEAGE),
    }


def evaluate(project: Path, toy: Toy, folder: str) -> tuple[dict[str, Any], Path]:
    """Run the stage; return its facts and its folder."""
    out = project / "artifacts" / folder
    inputs = {name: artifacts.load(name, project / "artifacts" / name) for name in ("prepare", "quantize")}
    out.mkdir()
    facts = run(PARAMS, inputs, out, project=project, work=project, checkpoints=project / "checkpoints")
    lineage = {name: artifact.digest for name, artifact in inputs.items()}
    artifacts.write("evaluate", out, facts=facts, made_from=lineage, params="", code="")
    return facts, out


@pytest.fixture(scope="module", params=ANSWERS)
def measured(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return a project with evaluated candidates, and its kind."""
    project = tmp_path_factory.mktemp(request.param)
    make_inputs(project, TOYS[request.param])
    evaluate(project, TOYS[request.param], "evaluate")
    return project, request.param


def test_leaves_scores_plots_and_a_card(measured: tuple[Path, str]):
    project, kind = measured
    artifact = artifacts.load("evaluate", project / "artifacts" / "evaluate")
    classes = TOYS[kind].problem.classes
    drawn = ["families", "conditions", "mistakes", "samples", *(["confusion"] if classes else [])]
    drawn += ["values"] if kind == "regression" else []
    plots = {f"plots/{name}.png" for name in drawn}
    ratings = {f"ratings/{name}.safetensors" for name in ("teacher", "student", "quantized")}
    assert {"scores.parquet", "scores.csv", "card.html", "card.md", "card.json"} | plots | ratings == set(
        artifact.files
    )
    # Some multilabel toys show no class.
    words = "By stratum" if kind in ("multilabel", "regression", "keypoints") else "By class"
    text = artifact.path("card.md").read_text()
    assert f"A {kind} model{' with 3 classes' if classes else ''} for images" in text and words in text
    assert artifact.facts["images"] == {"clean": 20, "stress": 8}
    for found in artifact.facts["candidates"].values():
        score = found[artifact.facts["headline"]]
        assert score["low"] <= score["value"] <= score["high"] <= 1
        assert score["low"] >= 0 or kind == "regression", "R² is below 0 for what is worse than the mean"
        assert set(found["stress"]) == {"noise"}
        file = project / "artifacts" / "quantize" / found["file"]
        assert found["digest"] == hashlib.sha256(file.read_bytes()).hexdigest()
    page = artifact.path("card.html").read_text(encoding="utf-8")
    assert (
        page.count("data:image/png;base64,") == len(drawn) and 'src="plots' not in page and "http" not in page
    )


def test_speed_is_measured_once_and_joins_the_card(
    measured: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
):
    project, _ = measured
    latency = measure(project, name="toys")
    speed = latency["candidates"]["student"]
    assert speed["latency_ms"]["n"] >= 200 and speed["images_per_s"]["n"] >= 5
    assert speed["latency_ms"]["p10"] <= speed["latency_ms"]["median"] <= speed["latency_ms"]["p90"]
    assert json.loads((project / "reports" / "latency.json").read_text()) == latency
    text = (project / "reports" / "card.md").read_text()
    assert text.startswith("# toys: model card") and f"{speed['latency_ms']['median']:.3g} ms" in text
    assert (project / "reports" / "plots" / "families.png").is_file()

    def refuse(files: dict[str, Path], size: list[int]) -> dict[str, Any]:
        assert not files, "measured again although nothing changed"
        return {}

    monkeypatch.setattr("temper.commands.latency.time_candidates", refuse)
    assert measure(project, name="toys") == latency


def test_the_same_files_give_the_same_artifact(tmp_path: Path):
    make_inputs(tmp_path, TOYS["multiclass"])
    first, second = (evaluate(tmp_path, TOYS["multiclass"], name)[1] for name in ("first", "second"))
    assert artifacts.load("evaluate", first).files == artifacts.load("evaluate", second).files


def test_clean_accuracy_is_what_the_file_itself_says(tmp_path: Path):
    make_inputs(tmp_path, TOYS["multiclass"])
    facts, out = evaluate(tmp_path, TOYS["multiclass"], "evaluate")
    test = tmp_path / "artifacts" / "prepare" / "test"
    images, label = np.load(test / "image.npy"), np.load(test / "label.npy")
    session = onnxruntime.InferenceSession(str(tmp_path / "artifacts" / "quantize" / "student.onnx"))
    (said,) = session.run(None, {"image": images})
    found = facts["candidates"]["student"]["accuracy"]
    assert found["value"] == int((said.argmax(1) == label).sum()) / 20
    with (out / "scores.csv").open() as stream:
        rows = [
            row
            for row in csv.DictReader(stream)
            if row["candidate"] == "student" and row["condition"] == "clean"
        ]
    assert float(rows[0]["value"]) == found["value"]
