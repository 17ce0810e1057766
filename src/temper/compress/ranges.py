"""Ranges of activations: an exported graph's values on calibration images, and where int8 should clip them.

A wide range costs resolution at every value: one outlier in a thousand images stretches the 255 steps over
numbers that no other value reaches. `minmax` clips nothing. `percentile` drops the outermost values. `mse`
clips where the sum of the squared errors of rounding and clipping is smallest. All three use the same
histogram, which is built in two passes over the images, whatever their number.

Source:
    Percentiles: Wu et al. 2020, arXiv:2004.09602, section 4.1.
    Squared error: Choukroun et al. 2019, arXiv:1902.06822, section 3.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import onnx
import onnxruntime
from jaxtyping import Float32, Int64
from onnx import numpy_helper

from temper.inputs.facts import count_examples
from temper.networks.onnx_model import Given, as_feed

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = get_args(Method)
_BINS = 2048
_TAIL = 5e-5
"""Share of the values that `percentile` drops on each side."""
_LEVELS = 255
_SHRINKS = np.geomspace(1e-3, 1.0, 90)
"""Ends of the range that `mse` tries, as shares of the smallest and the largest value."""
_BATCH = 64
_BATCH_BYTES = 128 << 20
"""Approximate limit, in bytes, on the observed values of one batch of calibration images."""


@dataclass(frozen=True)
class Seen:
    """The observed values of a tensor."""

    low: float
    high: float
    channel_high: Float32[np.ndarray, "channels"]
    """Largest absolute value of each channel (axis 1)."""
    counts: Int64[np.ndarray, "bins"]
    """Histogram between `low` and `high`."""

    def clipped(self, method: Method) -> tuple[float, float]:
        """Return the smallest and largest value that int8 should still distinguish; 0 lies between them."""
        low, high = min(self.low, 0.0), max(self.high, 0.0)
        if method == "minmax" or low == high or not self.counts.any():
            return low, high
        if method == "percentile":
            cumulated = np.cumsum(self.counts) / self.counts.sum()
            edges = np.linspace(self.low, self.high, len(self.counts) + 1)
            lower = edges[int(np.searchsorted(cumulated, _TAIL))]
            upper = edges[min(int(np.searchsorted(cumulated, 1 - _TAIL)) + 1, len(self.counts))]
            return min(float(lower), 0.0), max(float(upper), 0.0)
        best_high = min(_SHRINKS, key=lambda share: self._error(low, high * share)) * high
        best_low = min(_SHRINKS, key=lambda share: self._error(low * share, best_high)) * low
        return float(best_low), float(best_high)

    def _error(self, low: float, high: float) -> float:
        """Return the summed squared error of the values, rounded to 256 levels between two ends."""
        centres = self.low + (np.arange(len(self.counts)) + 0.5) * (self.high - self.low) / len(self.counts)
        step = (high - low) / _LEVELS
        if step <= 0:
            return float((self.counts * centres**2).sum())
        rounded = low + np.clip(np.round((centres - low) / step), 0, _LEVELS) * step
        # If a step is wider than a bin, rounding costs step²/12 on average, wherever the centre of the bin
        # lies.
        inside = (centres >= low) & (centres <= high)
        error = np.where(inside, np.maximum((centres - rounded) ** 2, step**2 / 12), (centres - rounded) ** 2)
        return float((self.counts * error).sum())


def observe(model: onnx.ModelProto, names: Sequence[str], given: Given) -> dict[str, Seen]:
    """Run an exported graph on calibration examples and record its inner values.

    Args:
        model: A float graph that takes raw inputs.
        names: Tensors to observe; tensors that are not float32 are left out.
        given: Calibration examples.

    Returns:
        The observed values by tensor name.
    """
    session, watched = _watching(model, names)
    feed = as_feed(given, tuple(each.name for each in session.get_inputs()))
    size = _batch_size(session, watched, feed)
    found: dict[str, Seen] = {}
    for name, value in _run(session, watched, feed, size):
        spread = np.abs(value).max(axis=tuple(axis for axis in range(value.ndim) if axis != 1))
        spread = np.atleast_1d(spread).astype(np.float32)
        low, high = float(value.min()), float(value.max())
        if name in found:
            before = found[name]
            low, high = min(low, before.low), max(high, before.high)
            spread = np.maximum(spread, before.channel_high)
        found[name] = Seen(low, high, spread, np.zeros(_BINS, np.int64))
    for name, value in _run(session, watched, feed, size):
        seen = found[name]
        if seen.low < seen.high:
            seen.counts[:] += np.histogram(value, bins=_BINS, range=(seen.low, seen.high))[0]
    return found


def float_tensors(model: onnx.ModelProto, nodes: Sequence[onnx.NodeProto]) -> list[str]:
    """Return the names of the inputs and outputs of the nodes, without weights, in order."""
    weights = {tensor.name for tensor in model.graph.initializer}
    names = [name for node in nodes for name in (*node.input, *node.output) if name and name not in weights]
    return list(dict.fromkeys(names))


def _watching(model: onnx.ModelProto, names: Sequence[str]) -> tuple[onnxruntime.InferenceSession, list[str]]:
    """Return a session that also outputs inner tensors, and the names of those that are float32.

    Graph optimisation is off, because it might fuse the tensors away.
    """
    watched = onnx.ModelProto()
    watched.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(watched).graph
    kinds = {
        value.name: value.type.tensor_type.elem_type for value in (*inferred.value_info, *inferred.output)
    }
    floats = [name for name in names if kinds.get(name) == onnx.TensorProto.FLOAT]
    there = {value.name for value in watched.graph.output}
    watched.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None)
        for name in floats
        if name not in there
    )
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return (
        onnxruntime.InferenceSession(
            watched.SerializeToString(), options, providers=["CPUExecutionProvider"]
        ),
        floats,
    )


def _batch_size(
    session: onnxruntime.InferenceSession, names: list[str], feed: Mapping[str, np.ndarray]
) -> int:
    """Return the number of examples per run that keeps the observed values within the memory limit."""
    one = session.run(names, {name: column[:1] for name, column in feed.items()})
    return int(np.clip(_BATCH_BYTES // max(1, sum(value.nbytes for value in one)), 1, _BATCH))


def _run(
    session: onnxruntime.InferenceSession, names: list[str], feed: Mapping[str, np.ndarray], size: int
) -> Iterator[tuple[str, np.ndarray]]:
    for start in range(0, count_examples(feed), size):
        values = session.run(names, {name: column[start : start + size] for name, column in feed.items()})
        yield from zip(names, values, strict=True)


def constants(model: onnx.ModelProto) -> Mapping[str, np.ndarray]:
    """Return the weights of a graph by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
