"""The cost of a deployable file: bytes, parameters and multiply-adds, counted from the file itself."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from temper.artifacts import digest_file
from temper.inputs.facts import Facts


@dataclass(frozen=True)
class Cost:
    """Size and computing work of one file."""

    bytes: int
    params: int
    """Number of weights and biases of convolutions and matrix products."""
    macs: int
    """Multiply-adds of convolutions and matrix products for one example of the trained size."""
    digest: str
    """SHA-256 of the file."""


_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def measure_cost(path: Path, facts: Facts) -> Cost:
    """Compute the cost of an ONNX file, fp32 or int8."""
    model = onnx.load(path)
    for given in model.graph.input:
        dims = given.type.tensor_type.shape.dim
        for dim, size in zip(dims, (1, *facts[given.name].shape), strict=True):
            dim.ClearField("dim_param")
            dim.dim_value = size
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes: dict[str, tuple[int, ...]] = {
        value.name: _shape(value) for value in (*inferred.value_info, *inferred.output, *inferred.input)
    }
    weights = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    origin = _weights_behind(model, weights)
    params = macs = 0
    for node in model.graph.node:
        if node.op_type not in _PRODUCTS:
            continue
        behind = [origin[name] for name in node.input if name in origin]
        params += sum(int(np.prod(weights[name])) for name in behind)
        # Attention multiplies two activations, without any weight.
        inner = (shapes | weights)[node.input[0]][-1]
        macs += _multiply_adds(node, shapes[node.output[0]], weights[behind[0]] if behind else (), inner)
    return Cost(bytes=path.stat().st_size, params=params, macs=macs, digest=digest_file(path))


def _weights_behind(model: onnx.ModelProto, weights: dict[str, tuple[int, ...]]) -> dict[str, str]:
    """Map each value name to the initializer that it holds, also after dequantization and reshaping."""
    origin = {name: name for name in weights}
    for node in model.graph.node:
        if (
            node.op_type in ("DequantizeLinear", "Transpose", "Reshape", "Identity", "Cast")
            and node.input[0] in origin
        ):
            origin[node.output[0]] = origin[node.input[0]]
    return origin


def _multiply_adds(node: onnx.NodeProto, output: tuple[int, ...], weight: tuple[int, ...], inner: int) -> int:
    if node.op_type == "MatMul":
        return int(np.prod(output)) * inner
    if node.op_type == "Conv":
        return int(np.prod(output)) * int(np.prod(weight[1:]))
    if node.op_type == "ConvTranspose":
        return int(np.prod(output)) * int(np.prod(weight)) // max(output[1], 1)
    return int(np.prod(weight)) * int(np.prod(output)) // max(output[-1], 1)


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    return tuple(dim.dim_value for dim in value.type.tensor_type.shape.dim)
