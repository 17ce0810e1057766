"""A student that int8 breaks never stops the pipeline, and its broken file is never published."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from temper.compress.export import Deployable, export
from temper.compress.params import QuantizeParams
from temper.gate.significance import Difference
from temper.networks.onnx_model import Deployed
from temper.problem import Inputs, Outputs
from temper.stages.int8_comparison import Comparison, Held
from temper.stages.int8_student import PRECISION, quantize_student
from tests.toy import FACTS, TOYS

TOY = TOYS["multiclass"]
NUM_IMAGES = 400


class Small(nn.Module):
    """Two convolutions, rectified, averaged, and a product."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU())
        self.head = nn.Linear(12, 3)

    def forward(self, inputs: Inputs) -> Outputs:
        return {"logits": self.head(self.second(self.first(inputs["image"].float() / 255)).mean(dim=(2, 3)))}


@pytest.fixture(scope="module")
def columns() -> dict[str, np.ndarray]:
    """Images whose classes differ only by a faint band in noise, so that even a small drift shows."""
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 3, NUM_IMAGES)
    images = generator.integers(0, 120, (NUM_IMAGES, 12, 12, 3))
    images[np.arange(NUM_IMAGES), 4:8, :, labels] += 40
    return {"image": images.clip(0, 255).astype(np.uint8), "label": labels}


@pytest.fixture
def network(columns: dict[str, np.ndarray]) -> Small:
    torch.manual_seed(0)
    made = Small().train()
    images = torch.from_numpy(columns["image"]).permute(0, 3, 1, 2)
    optimizer = torch.optim.SGD(made.parameters(), lr=0.1, momentum=0.9)
    for _ in range(40):
        loss = nn.functional.cross_entropy(
            made({"image": images})["logits"], torch.from_numpy(columns["label"])
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return made.eval()


def stretch(network: Small, factor: float) -> None:
    """Add outlier channels, which the small weights of the next layer compensate."""
    with torch.no_grad():
        for norm, weight in (
            (network.first[1], network.second[0].weight),
            (network.second[1], network.head.weight),
        ):
            norm.weight[:2] *= factor
            norm.bias[:2] *= factor
            weight[:, :2] /= factor


def shout(network: Small, size: float) -> None:
    """Add a large common part to the logits. The softmax cancels it, but it widens their one range."""
    with torch.no_grad():
        network.head.weight += size * torch.randn(12)


def run(
    folder: Path,
    network: Small,
    columns: dict[str, np.ndarray],
    capsys: pytest.CaptureFixture[str],
    **settings: object,
) -> tuple[dict[str, object], float, float, str]:
    """Return the recorded facts, the accuracies of the float and the quantized file, and the printed text."""
    params = QuantizeParams(**settings)  # type: ignore[arg-type]
    deployable = Deployable(network, TOY.problem, FACTS, 1.0).eval()
    export(deployable, FACTS, folder / "student.onnx", {})
    comparison = Comparison(folder / "student.onnx", TOY.problem, columns, FACTS, params, seed=1)
    found = quantize_student(
        folder, columns["image"][:64], comparison, params, headline="accuracy", metadata={}
    )
    scores = []
    for name in ("student", "quantized"):
        answers = Deployed(folder / f"{name}.onnx")(columns["image"])["probabilities"]
        scores.append(float((answers.argmax(1) == torch.from_numpy(columns["label"])).double().mean()))
    said = capsys.readouterr()
    assert Deployed(folder / "quantized.onnx").metadata[PRECISION] == found["precision"]
    assert sorted(path.name for path in folder.iterdir()) == ["quantized.onnx", "student.onnx"]
    return found, *scores, said.out + said.err


def test_a_healthy_student_is_int8_at_once(
    tmp_path: Path, network: Small, columns: dict, capsys: pytest.CaptureFixture
):
    found, before, after, said = run(tmp_path, network, columns, capsys)
    assert found["precision"] == "int8, ranges minmax" and len(found["tried"]) == 1
    assert after > before - 0.01 and before > 0.8
    assert "400 validation images" in said and f"accuracy {before:.4f} -> {after:.4f}" in said


def test_outlier_channels_are_equalised(
    tmp_path: Path, network: Small, columns: dict, capsys: pytest.CaptureFixture
):
    stretch(network, 500.0)
    found, before, after, _ = run(tmp_path, network, columns, capsys)
    assert "equalised" in found["precision"] and not found["float_layers"]
    assert found["tried"][0]["holds"] is False
    assert after > before - 0.01 and before > 0.8


def test_a_layer_that_drifts_is_left_in_float(
    tmp_path: Path, network: Small, columns: dict, capsys: pytest.CaptureFixture
):
    shout(network, 300.0)
    found, before, after, said = run(tmp_path, network, columns, capsys)
    assert found["float_layers"] == ["3 of 3 (Gemm 3x12)"]
    assert "in float: layer 3 of 3" in said
    assert after > before - 0.01 and before > 0.8


def test_where_nothing_holds_the_float_student_is_the_candidate_and_that_is_said(
    tmp_path: Path, network: Small, columns: dict, capsys: pytest.CaptureFixture
):
    shout(network, 300.0)
    found, before, after, said = run(tmp_path, network, columns, capsys, max_trials=2)
    assert found["precision"].startswith("fp16") and len(found["float_layers"]) == found["layers"] == 3
    assert [each["holds"] for each in found["tried"]] == [False, False]
    assert "WARNING: no int8 student is as good as the float one" in said and "quantize.max_trials" in said
    assert after == pytest.approx(before, abs=0.005)


def test_one_way_of_ranges_can_be_asked_for(
    tmp_path: Path, network: Small, columns: dict, capsys: pytest.CaptureFixture
):
    found, *_ = run(tmp_path, network, columns, capsys, calibration="mse")
    assert found["precision"] == "int8, ranges mse"


def test_drift_in_the_answers_counts_where_no_class_changed(tmp_path: Path, network: Small, columns: dict):
    """All classes stay right, but with less confidence: the score does not change, the mean error does."""
    params = QuantizeParams()
    for name, temperature in (("student", 1.0), ("unsure", 1.6)):
        export(
            Deployable(network, TOY.problem, FACTS, temperature).eval(), FACTS, tmp_path / f"{name}.onnx", {}
        )
    comparison = Comparison(tmp_path / "student.onnx", TOY.problem, columns, FACTS, params, seed=1)
    held = comparison.ask(tmp_path / "unsure.onnx")
    assert held.values[0] == held.values[1] and held.score.value == 0
    assert held.error.low < -params.max_drop and not held.holds
    assert comparison.ask(tmp_path / "student.onnx").holds


def test_a_small_split_allows_what_it_cannot_tell(tmp_path: Path, network: Small, columns: dict):
    export(Deployable(network, TOY.problem, FACTS, 1.0).eval(), FACTS, tmp_path / "student.onnx", {})
    few = {name: column[:30] for name, column in columns.items()}
    for given, margin in ((few, 3 / 30), (columns, 0.01)):
        comparison = Comparison(
            tmp_path / "student.onnx", TOY.problem, given, FACTS, QuantizeParams(), seed=1
        )
        assert comparison.ask(tmp_path / "student.onnx").margin == pytest.approx(margin)
    assert comparison.drift(tmp_path / "student.onnx", 100) == 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_answers_that_are_no_numbers_never_hold(value: float):
    fine, broken = Difference(0.0, 0.0, 0.0, np.zeros(3)), Difference(value, value, value, np.full(3, value))
    assert Held(score=fine, error=fine, values=(0.9, 0.9), gap=0.0, margin=0.01).holds
    assert not Held(score=fine, error=broken, values=(0.9, 0.9), gap=value, margin=0.01).holds
    partly = Difference(value, 0.0, 0.0, np.zeros(3))  # resamples without the broken image
    assert not Held(score=fine, error=partly, values=(0.9, 0.9), gap=value, margin=0.01).holds
