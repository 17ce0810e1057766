"""Equalisation: divides outlier channels and multiplies the weights that read them, so that one range fits.

An activation has one int8 range for all its channels. If one channel reaches a hundred times as far as the
others, two or three steps are left for the others. ReLUs, poolings and means pass on a positive factor per
channel. The factor can therefore move from the layer that makes a channel into the layer that reads it, and
the network computes the same function. The factor makes the largest activation and the largest weight of a
channel equal.

Source:
    Nagel et al. 2019, arXiv:1906.04721, section 4.1 (weights of both sides).
    With activations: Xiao et al. 2023, arXiv:2211.10438, equation 4 with alpha 0.5.
"""

from collections.abc import Mapping

import numpy as np
import onnx
from onnx import numpy_helper

from temper.compress.ranges import Seen, constants

_PASS = {
    "Relu",
    "MaxPool",
    "AveragePool",
    "GlobalAveragePool",
    "ReduceMean",
    "Flatten",
    "Reshape",
    "Squeeze",
    "Identity",
}
"""Operators that pass on a positive factor per channel.

They may remove positions from the shape, but no channels. The code compares the channel counts to check this.
"""
_LEAST, _MOST = 1e-2, 1e2
"""Limits of the factors, so that a channel with tiny activations does not inflate its weights."""


def equalize(model: onnx.ModelProto, seen: Mapping[str, Seen]) -> int:
    """Move the outliers of channels into the weights that read the channels, in place.

    Args:
        model: A float graph with batch normalisation folded where possible.
        seen: Observed values of the layers' inputs on calibration images.

    Returns:
        Number of changed layers. If there are any, the activations must be observed again.
    """
    weights = dict(constants(model))
    uses: dict[str, list[onnx.NodeProto]] = {}
    made = {name: node for node in model.graph.node for name in node.output}
    for node in model.graph.node:
        for name in node.input:
            uses.setdefault(name, []).append(node)
    outputs = {value.name for value in model.graph.output}
    changed: dict[str, np.ndarray] = {}
    count = 0
    for reader in model.graph.node:
        axis = _input_axis(reader, weights)
        if axis is None or reader.input[0] not in seen:
            continue
        maker = _find_maker(reader.input[0], made, uses, outputs)
        before = _scalable_weights(maker, weights) if maker is not None else ()
        after = reader.input[1]
        if not before or any(len(uses[name]) > 1 for name in (after, *before)) or changed.keys() & {after}:
            continue
        matrix, reach = weights[after], seen[reader.input[0]].channel_high
        if matrix.shape[axis] != len(reach) or any(weights[name].shape[0] != len(reach) for name in before):
            continue
        factor = _factors(
            reach, np.abs(matrix).max(axis=tuple(other for other in range(matrix.ndim) if other != axis))
        )
        shape = [-1 if other == axis else 1 for other in range(matrix.ndim)]
        weights[after] = changed[after] = matrix * factor.reshape(shape)
        for name in before:
            value = weights[name]
            weights[name] = changed[name] = value / factor.reshape([-1, *[1] * (value.ndim - 1)])
        count += 1
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name].astype(np.float32), tensor.name))
    return count


def _factors(reach: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the divisor of each channel; it makes the largest activation equal to the largest weight.

    They are equal up to a factor that all channels share.
    """
    known = (reach > 0) & (weight > 0)
    if not known.any():
        return np.ones_like(reach)
    factor = np.sqrt(np.where(known, reach, 1.0) / np.where(known, weight, 1.0))
    factor = np.where(known, factor / np.exp(np.log(factor[known]).mean()), 1.0)
    return np.clip(factor, _LEAST, _MOST).astype(np.float32)


def _input_axis(node: onnx.NodeProto, weights: Mapping[str, np.ndarray]) -> int | None:
    """Return the axis of a layer's weights that runs over its inputs; None if it does not mix channels."""
    if len(node.input) < 2 or node.input[1] not in weights:
        return None
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type == "Conv":
        return 1 if attributes.get("group", 1) == 1 else None
    if node.op_type == "Gemm" and not attributes.get("transA", 0):
        return 1 if attributes.get("transB", 0) else 0
    return 0 if node.op_type == "MatMul" and weights[node.input[1]].ndim == 2 else None


def _find_maker(
    name: str, made: Mapping[str, onnx.NodeProto], uses: Mapping[str, list[onnx.NodeProto]], outputs: set[str]
) -> onnx.NodeProto | None:
    """Return the node that makes a value's channels; None if a factor cannot be moved from it to the value.

    All operators in between must pass on factors, and nothing else may use a value in between.
    """
    while True:
        node = made.get(name)
        if node is None or name in outputs or len(uses[name]) > 1:
            return None
        if node.op_type not in _PASS:
            return node
        name = node.input[0]


def _scalable_weights(node: onnx.NodeProto, weights: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Return the names of a node's weights whose first axis runs over its output channels.

    The result is empty if the node cannot be scaled.
    """
    if node.op_type == "Conv" and node.input[1] in weights:
        names = tuple(name for name in node.input[1:] if name)
    elif node.op_type == "BatchNormalization":
        names = (node.input[1], node.input[2])  # scale and shift; the statistics stay unchanged
    else:
        return ()
    return names if all(name in weights for name in names) else ()
