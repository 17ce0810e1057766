"""Equalisation: outlier channels are divided before a layer and multiplied in its weights, so that one range fits all of them.

An activation has one int8 range for all its channels. Where one channel reaches a hundred times as far as the others, these are left
with two or three steps. Rectifiers, poolings and means let a positive factor per channel pass, so it can be moved from what makes a
channel into what reads it, without changing what the network computes. The factor makes the largest activation and the
largest weight of a channel equal.

Source:
    Nagel et al. 2019, arXiv:1906.04721, section 4.1 (weights of both sides); with activations: Xiao et al. 2023, arXiv:2211.10438,
    equation 4 with alpha 0.5.
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
"""Operators through which a positive factor per channel passes; shapes may only lose places, which is checked by the counts."""
_LEAST, _MOST = 1e-2, 1e2
"""Factors beyond this are cut: a channel that is nearly silent must not blow up its weights."""


def equalize(model: onnx.ModelProto, seen: Mapping[str, Seen]) -> int:
    """Move outliers of channels into the weights that read them, in place.

    Args:
        model: A float graph, batch normalisation folded where it can be.
        seen: What the inputs of its layers were on calibration images.

    Returns:
        How many layers were changed; activations must be observed anew if there are any.
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
        maker = _maker(reader.input[0], made, uses, outputs)
        held = _held(maker, weights) if maker is not None else ()
        theirs = reader.input[1]
        if not held or any(len(uses[name]) > 1 for name in (theirs, *held)) or changed.keys() & {theirs}:
            continue
        matrix, reach = weights[theirs], seen[reader.input[0]].channel_high
        if matrix.shape[axis] != len(reach) or any(weights[name].shape[0] != len(reach) for name in held):
            continue
        factor = _factors(
            reach, np.abs(matrix).max(axis=tuple(other for other in range(matrix.ndim) if other != axis))
        )
        shape = [-1 if other == axis else 1 for other in range(matrix.ndim)]
        weights[theirs] = changed[theirs] = matrix * factor.reshape(shape)
        for name in held:
            value = weights[name]
            weights[name] = changed[name] = value / factor.reshape([-1, *[1] * (value.ndim - 1)])
        count += 1
    for tensor in model.graph.initializer:
        if tensor.name in changed:
            tensor.CopyFrom(numpy_helper.from_array(changed[tensor.name].astype(np.float32), tensor.name))
    return count


def _factors(reach: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """By what each channel is divided: then its largest activation equals its largest weight, up to a common factor."""
    known = (reach > 0) & (weight > 0)
    if not known.any():
        return np.ones_like(reach)
    factor = np.sqrt(np.where(known, reach, 1.0) / np.where(known, weight, 1.0))
    factor = np.where(known, factor / np.exp(np.log(factor[known]).mean()), 1.0)
    return np.clip(factor, _LEAST, _MOST).astype(np.float32)


def _input_axis(node: onnx.NodeProto, weights: Mapping[str, np.ndarray]) -> int | None:
    """Axis of a layer's weights that runs over its inputs; None where the node is no layer that mixes channels."""
    if len(node.input) < 2 or node.input[1] not in weights:
        return None
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    if node.op_type == "Conv":
        return 1 if attributes.get("group", 1) == 1 else None
    if node.op_type == "Gemm" and not attributes.get("transA", 0):
        return 1 if attributes.get("transB", 0) else 0
    return 0 if node.op_type == "MatMul" and weights[node.input[1]].ndim == 2 else None


def _maker(
    name: str, made: Mapping[str, onnx.NodeProto], uses: Mapping[str, list[onnx.NodeProto]], outputs: set[str]
) -> onnx.NodeProto | None:
    """The node that makes a value's channels, if all on the way lets factors pass and nobody else looks on."""
    while True:
        node = made.get(name)
        if node is None or name in outputs or len(uses[name]) > 1:
            return None
        if node.op_type not in _PASS:
            return node
        name = node.input[0]


def _held(node: onnx.NodeProto, weights: Mapping[str, np.ndarray]) -> tuple[str, ...]:
    """Weights of a node whose first axis runs over the channels it makes; empty where it is none that can be scaled."""
    if node.op_type == "Conv" and node.input[1] in weights:
        names = tuple(name for name in node.input[1:] if name)
    elif node.op_type == "BatchNormalization":
        names = (node.input[1], node.input[2])  # scale and shift; its statistics stay
    else:
        return ()
    return names if all(name in weights for name in names) else ()
