"""All stages for every kind of problem, one after the other, without DVC, Prefect and MLflow.

Every kind of problem is tried in this process, where the stages take a few seconds. Slow tests then run the
stages in processes of their own, as DVC does.
"""

import itertools
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from safetensors.numpy import load_file, save_file

from temper import artifacts
from temper.data.dataset.packed import open_split, open_training
from temper.fields import VALID, Frame
from temper.ops.pipeline import cleanup
from temper.ops.project import Project
from temper.problem import SHARE
from temper.problems import load as load_problem
from temper.stages import STAGES
from temper.stages.load_trained import read_facts
from temper.stages.source_deps import stage_sources
from tests.project import KINDS, ROOT, make_project, run_in_process, run_stage

SENT = (200, 50)
"""Width and height of the images that a server is asked about, in px."""
FRAME = Frame(height_px=SENT[1], width_px=SENT[0])
CHANCE = {
    "multiclass": 0.4,
    "multilabel": 0.4,
    "segmentation": 0.25,
    "regression": 1.7,
    "keypoints": 0.3,
    "detection": 0.1,
    "retrieval": 0.4,
    "three inputs": 0.5,
    "text": 0.6,
    "clip": 0.65,
}
"""Score that the teacher must exceed on the test split, or stay below: chance is a quarter with four classes,
for clips a half, if the order of their frames is not seen; the median of the sides is 2 px off on average."""
TAUGHT = {"detection": 0.4}
"""Score that the student must exceed: if empty cells decide what it is taught, it stays at 0.2."""
FAMILIES = {
    "keypoints": "occlusion",
    "retrieval": "noise",
    "detection": "occlusion",
    "three inputs": "noise",
    "text": "",
    "clip": "",
}
"""Kind -> families of stress, if not all: only what is hidden concerns the truth of these kinds."""
AUGMENT = {
    "multiclass": "{balance: {method: oversample}}",
    "multilabel": "{balance: {method: weights}}",
    "segmentation": (
        "{copies: 1, policy: [{name: HorizontalFlip, p: 1.0}, {name: GaussNoise, p: 0.5}], workers: 2}"
    ),
    "regression": "{balance: {method: oversample}}",
    "retrieval": "{copies: 1, policy: [{name: HorizontalFlip, p: 0.5}], workers: 2}",
    "three inputs": "{copies: 1, policy: [{name: GaussNoise, p: 0.5}], workers: 2}",
    "text": "{balance: {method: oversample}}",
    "clip": "{balance: {method: weights}}",
    "detection": "{copies: 1, policy: [{name: HorizontalFlip, p: 0.5}], workers: 2}",
    "keypoints": "{copies: 1, policy: [{name: HorizontalFlip, p: 0.5}], workers: 2}",
}
TAKEN = {
    "image": (np.uint8, ["free", "free", "free", 3]),
    "text": (np.uint8, ["free", "free"]),
    "table": (np.float32, ["free", 2]),
    "clip": (np.uint8, ["free", 4, "free", "free", 3]),
}
"""Input -> type and axes in the deployed file."""
DOOR = {
    "temper.parent_death",
    "temper",
    "temper.__main__",
    "temper.cli",
    "temper.cli.application",
    "temper.cli.main",
    "temper.cli.project_commands",
    "temper.cli.model_commands",
    "temper.cli.internal_commands",
    "temper.stages.run_stage",
    "temper.config_errors",
    "temper.config",
    "temper.retrain_params",
    "temper.serve_params",
    "temper.stages",
    "temper.stages.source_deps",
    "temper.engine.distributed.elastic_agent",
    "temper.engine.distributed.rendezvous",
    "temper.engine.distributed.rank_failures",
    "temper.engine.distributed.launch_spec",
    "temper.engine.distributed.launcher",
}
PROBE = """
import atexit, os, sys
def tell():
    with open(os.environ["TEMPER_PROBE"], "a") as stream:
        stream.write("\\n".join(name for name in sys.modules if name.startswith("temper")) + "\\n")
atexit.register(tell)
"""


VIEWS = "views: {flip: true, crop_px: 1}"
CANVASES = [("multiclass", "stretch"), ("segmentation", "letterbox"), ("segmentation", "keep-height")]
BESIDE = {"letterbox": [*range(4), *range(20, 24)], "keep-height": [*range(16, 24)]}
"""Columns, of 24, beside square images."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_chain(tmp_path: Path, kind: str):
    families = FAMILIES.get(kind, "occlusion, illumination, noise")
    project = make_project(
        tmp_path / "project", kind, count=400, epochs=12, augment=AUGMENT[kind], families=families
    )
    made = {stage.name: run_in_process(project, stage.name) for stage in STAGES}
    assert_candidates(kind, made)
    assert_contract(made["quantize"], made["prepare"])
    assert_served_and_watched(made["quantize"], made["prepare"])
    if kind == "multiclass":
        assert_same_again(project, made)
        assert_drift_ends_in_a_good_model(project, made)
        assert_test_split_untouched(project, made)


@pytest.mark.parametrize(("kind", "fit"), CANVASES)
def test_the_chain_on_encoded_images(tmp_path: Path, kind: str, fit: str):
    project = make_project(tmp_path, kind, count=160)
    text = (project / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("test_share: 0.25}", f"test_share: 0.25, keep: encoded, fit: {fit}}}")
    text = text.replace("width_px: 16", "width_px: 24") if fit in BESIDE else text
    text = text.replace(VIEWS, "views: {flip: true, crop_scale: [0.5, 1], cutmix: 1.0}")
    (project / "params.yaml").write_text(text, encoding="utf-8")
    made = {stage.name: run_in_process(project, stage.name) for stage in STAGES}
    assert "encoded/images.bin" in made["prepare"].files
    assert "train/image.npy" not in made["prepare"].files
    assert "quantized.onnx" in made["quantize"].files
    if fit in BESIDE:
        mask = open_split(made["prepare"], "validation")["mask"]
        assert ((mask == 255) == np.isin(np.arange(24), BESIDE[fit])).all()
        assert_contract(made["quantize"], made["prepare"])
        assert_served_and_watched(made["quantize"], made["prepare"])


def test_a_vision_transformer_and_a_student_with_attention(tmp_path: Path):
    """Their products of two activations have no weights; the cost of the files counts them all the same."""
    project = make_project(tmp_path, "multiclass", count=120, epochs=1, families="")
    text = (project / "params.yaml").read_text(encoding="utf-8")
    text = text.replace("height_px: 16, width_px: 16", "height_px: 32, width_px: 32")
    text = text.replace(
        "{family: small-resnet, widths: [8, 16], depths: [1, 1]}", "{family: timm, name: test_vit}"
    ).replace("widths: [8], depths: [1]}", "widths: [8], depths: [1], attention: cbam}")
    (project / "params.yaml").write_text(text, encoding="utf-8")
    made = {stage.name: run_in_process(project, stage.name) for stage in STAGES}
    teacher = made["quantize"].facts["candidates"]["teacher"]
    assert teacher["macs"] > 4 * teacher["params"] > 0, "each of four patches meets every weight"
    assert made["evaluate"].facts["candidates"].keys() == {"teacher", "student", "quantized"}


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["multiclass", "multilabel", "segmentation"])
def test_stages_in_their_own_processes_load_only_modules_that_dvc_watches(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
):
    project = make_project(tmp_path / "project", kind, count=120, epochs=1, augment=AUGMENT[kind])
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(PROBE)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'site'}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    # Later stages differ between kinds only by files that `train` reaches, too.
    last = len(STAGES) if kind == "segmentation" else [stage.name for stage in STAGES].index("train") + 1
    for stage in STAGES[:last]:
        monkeypatch.setenv("TEMPER_PROBE", str(tmp_path / f"{stage.name}.txt"))
        done = run_stage(project, stage.name)
        assert done.returncode == 0, f"{stage.name}: {done.stderr[-3000:]}"
        assert_watched(stage.name, set((tmp_path / f"{stage.name}.txt").read_text().split()))


def assert_watched(stage: str, reached: set[str]) -> None:
    """Assert that DVC watches every module that the interpreter loaded while the stage ran."""
    watched = {
        ".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__")
        for path in stage_sources(stage)
    }
    rest = {name for name in reached - watched - DOOR if not only_read_at_the_door(name)}
    assert not rest, f"{stage} reaches {sorted(rest)}, which DVC does not watch"


def only_read_at_the_door(module: str) -> bool:
    """Return whether a module is needed only to check params.yaml.

    `params.py` imports every section and every kind of problem for this check; DVC watches the values.
    """
    package = ROOT / "src" / Path(*module.split(".")) / "__init__.py"
    empty = package.is_file() and not package.read_text().strip()
    named = (
        "temper.artifacts",
        "temper.engine.distributed.ranks",
        "temper.data.augmentation.albumentations_policy",
        "temper.maths.geometry",  # imported by the policy
        "temper.gate.slices",
        "temper.networks.head_params",
        "temper.data.source_params",
        "temper.data.counted",  # imported by it
        "temper.data.images.mask_values",
    )
    return empty or module.endswith(".params") or module.startswith("temper.problem") or module in named


def assert_candidates(kind: str, made: dict[str, artifacts.Artifact]) -> None:
    facts = made["evaluate"].facts
    assert set(facts["candidates"]) == {"teacher", "student", "quantized"}
    for candidate in facts["candidates"].values():
        score = candidate[facts["headline"]]
        assert 0 <= score["low"] <= score["value"] <= score["high"]
        assert score["high"] <= 1 or facts["unit"] != SHARE
        assert set(candidate["stress"]) == {
            each for each in FAMILIES.get(kind, "occlusion, illumination, noise").split(", ") if each
        }
    sizes = [facts["candidates"][name]["bytes"] for name in ("teacher", "student", "quantized")]
    assert sizes == sorted(sizes, reverse=True)
    assert facts["candidates"]["student"][facts["headline"]]["value"] > TAUGHT.get(kind, -1)
    sign = 1 if facts["greater_is_better"] else -1
    assert sign * facts["candidates"]["teacher"][facts["headline"]]["value"] > sign * CHANCE[kind]


def assert_contract(quantize: artifacts.Artifact, prepare: artifacts.Artifact) -> None:
    from temper.networks.onnx_model import Deployed

    for name in ("teacher", "student", "quantized"):
        model = onnx.load(quantize.path(f"{name}.onnx"))
        facts = read_facts(prepare)
        assert [given.name for given in model.graph.input] == list(facts)
        for given in model.graph.input:
            dims = [dim.dim_value or "free" for dim in given.type.tensor_type.shape.dim]
            kind = onnx.helper.tensor_dtype_to_np_dtype(given.type.tensor_type.elem_type)
            assert (kind, dims) == TAKEN[given.name]
        deployed = Deployed(quantize.path(f"{name}.onnx"))
        classes = prepare.facts["problem"].get("classes", [])
        assert json.loads(deployed.metadata["temper.classes"]) == classes
        assert deployed.metadata["temper.data"] == prepare.digest
        assert json.loads(deployed.metadata["temper.parents"])["train"] == quantize.made_from["train"]
        declared = tuple(load_problem(prepare.facts["problem"]).answer)
        assert tuple(each for each in deployed.outputs if not each.endswith(VALID)) == declared
        # Resizing is part of the graph, so every height, width, length and batch size works.
        for batch, longer in ((1, 0), (3, 4)):
            sent = {key: each.example(batch, longer=longer) for key, each in facts.items()}
            assert len(deployed(sent)[deployed.outputs[0]]) == batch
    int8 = onnx.load(quantize.path("quantized.onnx"))
    weights = {tensor.name: tensor.data_type for tensor in int8.graph.initializer}
    scales = [
        node for node in int8.graph.node if node.op_type == "DequantizeLinear" and node.input[0] in weights
    ]
    assert onnx.TensorProto.INT8 in {weights[node.input[0]] for node in scales}
    assert not any(node.op_type == "BatchNormalization" for node in int8.graph.node)


def change(column: np.ndarray) -> np.ndarray:
    """Return another drift of each input: dark images, texts in other letters, larger numbers."""
    return column + 30 if column.dtype.kind == "f" else column // 3


def assert_served_and_watched(quantize: artifacts.Artifact, prepare: artifacts.Artifact) -> None:
    """Assert that answers say what the problem declares, and that drift is tested in what they say."""
    from temper.commands import drift
    from temper.networks.onnx_model import Deployed
    from temper.problems.deployed_answer import read_answer
    from temper.serving.answers import as_json

    deployed = Deployed(quantize.path("quantized.onnx"), part=64)
    problem, facts = load_problem(prepare.facts["problem"]), read_facts(prepare)
    held = open_split(prepare, "validation")
    given = {name: np.asarray(held[name]) for name in facts}
    answers = {name: value.numpy() for name, value in deployed(given).items()}
    fields = read_answer(deployed.metadata)
    assert fields == problem.answer
    assert {name for name in answers if not name.endswith(VALID)} == fields.keys()
    served = json.loads(as_json(answers, fields, [FRAME] * len(next(iter(given.values())))))
    for (name, field), answer in itertools.product(fields.items(), served):
        if field.unit is not None:
            assert answer[name].keys() == {*field.names} and answer.get("unit", "") == field.unit
        elif field.layout == "points":
            assert answer[name].keys() == {*field.names}
            places = np.array(list(answer[name].values()))
            assert (places >= 0).all() and (places <= SENT).all() and places.max() > 1
        elif field.layout == "boxes":
            places = np.array([each["box"] for each in answer[name]]).reshape(-1, 4)
            assert (places >= 0).all() and (places <= [*SENT, *SENT]).all()
            assert {each["class"] for each in answer[name]} <= {*problem.classes}
            scores = [each["score"] for each in answer[name]]
            assert answer.keys() == {name} and scores == sorted(scores, reverse=True)
        elif field.layout == "value":
            assert "class" in answer or "classes" in answer
    clear = drift.describe(given, facts, deployed)
    dark = drift.describe({name: change(column) for name, column in given.items()}, facts, deployed)
    assert all(each.adjusted == 1 for each in drift.run_tests(clear, clear))
    alarms = {each.name for each in drift.run_tests(clear, dark) if each.adjusted < 0.01}
    seen = {what for name, each in facts.items() for what in each.describe(given[name])}
    answered = {name for name in clear if name.removeprefix(name.partition(": ")[0] + ": ") not in seen}
    assert alarms - answered and alarms & answered
    assert "brightness" not in seen or {"brightness", "image: brightness"} & alarms


def assert_same_again(project: Path, made: dict[str, artifacts.Artifact]) -> None:
    """Assert that the same seed gives the same files.

    The checkpoints that the stages left, which the flow removes otherwise, are deleted first.
    """
    kept = {path.read_text() for path in (project / ".temper" / "checkpoints").glob("*/stage")}
    assert kept == {stage.name for stage in STAGES if stage.resumes}
    for stage in STAGES:
        cleanup.forget_checkpoints(Project.at(project), stage.name)
    assert list((project / ".temper" / "checkpoints").iterdir()) == []
    for name in ("train", "quantize", "evaluate"):
        assert run_in_process(project, name).digest == made[name].digest


def assert_drift_ends_in_a_good_model(project: Path, made: dict[str, artifacts.Artifact]) -> None:
    """Assert that a student with very large logits becomes a quantized model that is as good as the student.

    All logits of an image get the same large offset. It does not change the softmax, but one int8 range does
    not suffice for such logits.
    """
    student = made["distill"]
    weights = load_file(student.path(artifacts.WEIGHTS))
    weights["head.weight"] += 300 * np.random.default_rng(0).normal(
        size=weights["head.weight"].shape[1:]
    ).astype("f")
    save_file(weights, student.path(artifacts.WEIGHTS))
    record = {name: getattr(student, name) for name in ("made_from", "params", "code", "facts")}
    artifacts.write("distill", student.folder, **record)
    quantize, evaluate = (run_in_process(project, name).facts for name in ("quantize", "evaluate"))
    assert quantize["quantization"]["float_layers"], "the head alone drifts"
    scores = {name: found["accuracy"]["value"] for name, found in evaluate["candidates"].items()}
    assert scores["quantized"] >= scores["student"] - 0.02


def assert_test_split_untouched(project: Path, made: dict[str, artifacts.Artifact]) -> None:
    """Assert that only evaluate needs the test images.

    Without them the other splits can be opened, and evaluate reports what is missing.
    """
    prepare, augment = made["prepare"], made["augment"]
    open_split(prepare, "validation")
    open_training(prepare, augment)
    for path in (prepare.folder / "test").iterdir():
        path.unlink()
    open_split(prepare, "train")
    open_training(prepare, augment)
    with pytest.raises(ValueError, match=r"test/image\.npy is missing"):
        run_in_process(project, "evaluate")
