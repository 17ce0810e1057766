"""Weights in half precision: a file of about half the size whose arithmetic stays in float32.

Such a file is deployed if int8 does not hold. Every weight is stored as float16 and converted to float32 when
the file is loaded, so the answers differ only by the rounding of the weights (a relative 5e-4).
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from temper.compress.export import write_model

_LEAST = 16
"""Tensors with fewer elements stay unchanged: they take almost no space, and may be sizes or scales."""


def halve(source: Path, target: Path, *, metadata: Mapping[str, str]) -> None:
    """Write a copy of an fp32 file with float16 weights.

    Args:
        source: fp32 ONNX file, from `export`.
        target: Target file.
        metadata: Metadata of the target file.
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
