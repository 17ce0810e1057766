"""Ranges from histograms, compared with ranges from all values."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from temper.compress.ranges import Seen, observe


def seen(values: np.ndarray) -> Seen:
    low, high = float(values.min()), float(values.max())
    return Seen(low, high, np.ones(1, np.float32), np.histogram(values, 2048, (low, high))[0])


def error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    rounded = low + np.clip(np.round((values - low) / step), 0, 255) * step
    return float(((values - rounded) ** 2).mean())


def test_minmax_takes_all_and_holds_zero():
    assert seen(np.array([1.0, 2.0, 3.0])).clipped("minmax") == (0.0, 3.0)
    assert seen(np.array([-3.0, -2.0])).clipped("minmax") == (-3.0, 0.0)
    assert seen(np.zeros(5)).clipped("mse") == (0.0, 0.0)


def test_percentile_gives_up_the_outermost_values():
    values = np.random.default_rng(0).normal(size=1_000_000)
    low, high = seen(values).clipped("percentile")
    assert (low, high) == pytest.approx(np.quantile(values, [5e-5, 1 - 5e-5]), abs=0.01)


def test_mse_clips_an_outlier_and_is_near_the_best_there_is():
    values = np.abs(np.random.default_rng(1).normal(size=100_000))
    values[0] = 60.0
    low, high = seen(values).clipped("mse")
    best = min(error(values, 0.0, end) for end in np.linspace(1, 60, 600))
    assert low == 0
    assert error(values, low, high) < 1.03 * best < error(values, 0.0, 60.0)


def test_mse_leaves_even_values_alone():
    values = np.linspace(-1, 1, 100_001)
    assert seen(values).clipped("mse") == pytest.approx((-1, 1))


def test_observation_is_of_every_image_and_channel(tmp_path: Path):
    """The graph multiplies the three channels by 1, -2 and 3."""
    factors = numpy_helper.from_array(np.array([1, -2, 3], np.float32).reshape(1, 3, 1, 1), "factors")
    nodes = [
        helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["floats"], ["planes"], perm=[0, 3, 1, 2]),
        helper.make_node("Mul", ["planes", "factors"], ["scaled"]),
        helper.make_node("Relu", ["scaled"], ["out"]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["n", 2, 2, 3])],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["n", 3, 2, 2])],
        [factors],
    )
    images = np.random.default_rng(0).integers(0, 256, (150, 2, 2, 3), dtype=np.uint8)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    found = observe(model, ["scaled", "out", "image"], images)
    assert found.keys() == {"scaled", "out"}, "int8 needs no ranges for uint8 tensors"
    most = images.reshape(-1, 3).max(axis=0) * np.array([1, 2, 3])
    assert found["scaled"].channel_high == pytest.approx(most)
    assert (found["scaled"].low, found["scaled"].high) == (-most[1], max(most[0], most[2]))
    assert found["out"].low == 0
    assert found["scaled"].counts.sum() == images.size
