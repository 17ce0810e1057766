"""Weights in half precision: a file of about half the size whose arithmetic stays in float32.

What is deployed where int8 does not hold. Every weight is stored as float16 and widened when the file is loaded, so answers
differ by the rounding of weights alone (a relative 5e-4).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from temper.compress.export import write_model

_LEAST = 16
"""Smaller tensors stay as they are: they weigh nothing, and may be sizes or scales."""


def halve(source: Path, target: Path, *, metadata: Mapping[str, str]) -> None:
    """Write a float32 file with its weights as float16.

    Args:
        source: fp32 ONNX file, from `export`.
        target: Where to.
        metadata: What the file shall say about itself.
    """
    model = onnx.load(source)
    casts = []
    for tensor in model.graph.initializer:
        value = numpy_helper.to_array(tensor)
        if value.dtype != np.float32 or value.size < _LEAST or np.abs(value).max() > np.finfo(np.float16).max:
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(value.astype(np.float16), f"{name}.half"))
        casts.append(onnx.helper.make_node("Cast", [f"{name}.half"], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    write_model(model, target, metadata)
