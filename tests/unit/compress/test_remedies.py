"""Remedies for networks that int8 breaks; in float, each equals a network that int8 does not break."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch import nn

from temper.compress.cost import measure_cost
from temper.compress.half import halve
from temper.compress.quantizer import Quantizer, Setting
from temper.networks.onnx_model import Deployed
from temper.problem import Inputs, Outputs
from tests.toy import FACTS, SIZE, TOYS
from tests.unit.compress.test_export import draw_images, exported

IMAGES = draw_images(96, SIZE, SIZE)


class Plain(nn.Module):
    """Two convolutions with ReLU, a mean over positions, and a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.second = nn.Sequential(nn.Conv2d(16, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU())
        self.head = nn.Linear(16, 3)

    def forward(self, inputs: Inputs) -> Outputs:
        maps = self.second(self.first(inputs["image"].float() / 255))
        return {"logits": 12 * self.head(maps.mean(dim=(2, 3)))}


@pytest.fixture
def network() -> Plain:
    torch.manual_seed(0)
    made = Plain().train()
    inputs, _ = TOYS["multiclass"].batch(64)
    for _ in range(30):
        made(inputs)
    return made.eval()


def stretch(network: Plain, factor: float) -> Plain:
    """Multiply one channel by `factor` and divide the weights that read it by `factor`.

    In float, the network stays the same.
    """
    with torch.no_grad():
        for norm, weight in (
            (network.first[1], network.second[0].weight),
            (network.second[1], network.head.weight),
        ):
            norm.weight[2] *= factor
            norm.bias[2] *= factor
            weight[:, 2] /= factor
    return network


def gap(tmp_path: Path, quantizer: Quantizer, setting: Setting) -> float:
    quantizer.make(setting, tmp_path / "int8.onnx", {})
    answers = (Deployed(tmp_path / name)(IMAGES)["probabilities"] for name in ("float.onnx", "int8.onnx"))
    first, second = answers
    return float((first - second).abs().amax(dim=1).mean())


def test_equalisation_undoes_an_outlier_channel(tmp_path: Path, network: Plain):
    plain = Quantizer(exported(network, tmp_path / "float.onnx"), IMAGES, tmp_path)
    usual = gap(tmp_path, plain, Setting())
    answers = Deployed(tmp_path / "float.onnx")(IMAGES)["probabilities"]
    drifting = Quantizer(exported(stretch(network, 400.0), tmp_path / "float.onnx"), IMAGES, tmp_path)
    torch.testing.assert_close(
        Deployed(tmp_path / "float.onnx")(IMAGES)["probabilities"], answers, atol=1e-4, rtol=0
    )
    assert gap(tmp_path, drifting, Setting()) > 5 * usual
    assert gap(tmp_path, drifting, Setting(equalized=True)) < 2 * usual


def test_a_layer_in_float_is_not_quantized_and_all_of_them_are_the_float_network(
    tmp_path: Path, network: Plain
):
    quantizer = Quantizer(exported(network, tmp_path / "float.onnx"), IMAGES, tmp_path)
    assert len(quantizer.layers) == 3
    assert quantizer.layers[0].startswith("1 of 3 (Conv 16x3x3x3")
    quantizer.make(Setting(floats=frozenset({2})), tmp_path / "int8.onnx", {})
    kinds = {
        numpy_helper.to_array(tensor).dtype.name
        for tensor in onnx.load(tmp_path / "int8.onnx").graph.initializer
        if tuple(tensor.dims) == tuple(network.head.weight.shape)
    }
    assert kinds == {"float32"}
    assert gap(tmp_path, quantizer, Setting(floats=frozenset({0, 1, 2}))) < 1e-5


def test_drift_is_the_drifting_layers_own(tmp_path: Path, network: Plain):
    """The head's large logits cancel: it helps to leave the head in float, but not the first convolution."""
    with torch.no_grad():
        common = 60 * torch.randn(16)
        network.head.weight += common  # the same for every class, so the softmax cancels it
    quantizer = Quantizer(exported(network, tmp_path / "float.onnx"), IMAGES, tmp_path)
    whole, head, first = (
        gap(tmp_path, quantizer, Setting(floats=frozenset(left))) for left in ((), {2}, {0})
    )
    assert head < whole / 5 < first


def test_half_precision_keeps_answers_and_halves_the_file(tmp_path: Path, network: Plain):
    source = exported(network, tmp_path / "float.onnx")
    halve(source, tmp_path / "half.onnx", metadata={"a": "b"})
    exact, small = Deployed(source), Deployed(tmp_path / "half.onnx")
    torch.testing.assert_close(
        small(IMAGES)["probabilities"], exact(IMAGES)["probabilities"], atol=5e-3, rtol=0
    )
    assert small.metadata == {"a": "b"}
    weights = sum(value.numel() for value in network.parameters() if value.dim() > 1)
    assert source.stat().st_size - (tmp_path / "half.onnx").stat().st_size > 1.5 * weights
    assert measure_cost(tmp_path / "half.onnx", FACTS).params == measure_cost(source, FACTS).params


def test_weights_that_half_precision_cannot_hold_stay_as_they_are(tmp_path: Path, network: Plain):
    with torch.no_grad():
        network.first[0].weight[0, 0, 0, 0] = 1e30
    source = exported(network, tmp_path / "float.onnx")
    halve(source, tmp_path / "half.onnx", metadata={})
    values = [numpy_helper.to_array(tensor) for tensor in onnx.load(tmp_path / "half.onnx").graph.initializer]
    assert all(np.isfinite(value).all() for value in values)
