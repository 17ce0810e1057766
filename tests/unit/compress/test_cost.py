"""Multiply-adds are counted from the graph, also where two activations are multiplied."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from temper.compress.cost import measure_cost
from temper.inputs.image_input import ImageInput


def test_attention_has_no_weights_and_is_counted(tmp_path: Path):
    """[1, 4, 4, 1] pixels become [1, 16, 1]; times a weight of [1, 8]; times its own transpose."""
    pixels = helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", "H", "W", 1])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "shape"], ["tokens"]),
        helper.make_node("MatMul", ["tokens", "weight"], ["wide"]),
        helper.make_node("Transpose", ["wide"], ["turned"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["wide", "turned"], ["out"]),
    ]
    constants = [
        onnx.numpy_helper.from_array(np.array([1, 16, 1], np.int64), "shape"),
        onnx.numpy_helper.from_array(np.ones((1, 8), np.float32), "weight"),
    ]
    graph = helper.make_graph(nodes, "attention", [pixels], [out], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])
    onnx.save(model, tmp_path / "x.onnx")
    cost = measure_cost(tmp_path / "x.onnx", {"image": ImageInput(4, 4, 1)})
    assert cost.params == 8
    assert cost.macs == 16 * 8 + 16 * 16 * 8
