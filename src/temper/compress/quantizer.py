"""Static int8 quantization of an exported network: QDQ, weights per channel, ranges from training images.

Convolutions and matrix products, with the additions, rectifiers and poolings between them, run in int8; resizing, normalisation and
read-out stay in float, since they are cheap and carry the file's contract. Which ranges, whether channels are equalised and
which layers stay in float is a `Setting`; `search` looks for the one that holds. Left out: quantization-aware training.

Source:
    Wu et al. 2020, arXiv:2004.09602, sections 3 and 5 (per-channel weights, activation calibration).
"""

import logging
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from jaxtyping import UInt8
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NoSuchFile
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from temper.compress.equalize import equalize
from temper.compress.export import write_model
from temper.compress.ranges import Method, Seen, float_tensors, observe

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_OPERATORS = [*_PRODUCTS, "Add", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "AveragePool", "ReduceMean"]
_CUT_OFF = (DecodeError, Fail, InvalidGraph, InvalidProtobuf, NoSuchFile)
"""What ONNX and its runtime raise about a file of their own that a full disk cut off: they do not look whether they could write."""


@dataclass(frozen=True)
class Setting:
    """How a network becomes int8."""

    ranges: Method = "minmax"
    equalized: bool = False
    """Outliers of channels are moved into the weights that read them."""
    floats: frozenset[int] = frozenset()
    """Numbers of the layers that stay in float."""


class Quantizer:
    """Makes int8 versions of one exported file; what they share is computed once.

    Args:
        source: fp32 ONNX file, from `export`.
        images: uint8 images [N, H, W, C] that set the activations' ranges.
        folder: For files in between; they are removed.

    Attributes:
        layers: What can stay in float, in order: a convolution or product with what follows it, in words.

    Raises:
        OSError: If one of the files in between could not be written whole.
    """

    def __init__(self, source: Path, images: UInt8[np.ndarray, "n h w c"], folder: Path) -> None:
        self._images, self._folder = images, folder
        with self._between() as between:
            plain = between / "plain.onnx"
            quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
            self._plain = onnx.load(plain)
        self._nodes = _split(self._plain)
        weights = {tensor.name: "x".join(map(str, tensor.dims)) for tensor in self._plain.graph.initializer}
        self.layers = tuple(
            f"{number} of {len(self._nodes)} ({nodes[0].op_type} {weights.get(nodes[0].input[1], '')})".replace(
                " )", ")"
            )
            for number, nodes in enumerate(self._nodes, 1)
        )
        self._ready: dict[bool, tuple[onnx.ModelProto, dict[str, Seen]]] = {}

    def make(self, setting: Setting, target: Path, metadata: Mapping[str, str]) -> None:
        """Write the int8 version of a setting.

        Args:
            setting: How.
            target: Where to.
            metadata: What the file shall say about itself.

        Raises:
            OSError: If one of the files in between could not be written whole.
        """
        model, seen = self._observed(equalized=setting.equalized)
        ranges = {
            name: tuple(np.array(end, np.float32) for end in found.clipped(setting.ranges))
            for name, found in seen.items()
        }
        kept = [node.name for number in sorted(setting.floats) for node in self._nodes[number]]
        with self._between() as between:
            raw, cache = between / "int8.onnx", between / "ranges.json"
            save_tensors_data(TensorsData(CalibrationMethod.MinMax, ranges), cache)
            quantize_static(
                model,
                str(raw),
                quant_format=QuantFormat.QDQ,
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibration_cache_path=cache,
                op_types_to_quantize=_OPERATORS,
                nodes_to_exclude=[*_before_the_network(model), *kept],
                extra_options={"QuantizeBias": True},
            )
            made = onnx.load(raw)
        write_model(made, target, metadata)

    def _observed(self, *, equalized: bool) -> tuple[onnx.ModelProto, dict[str, Seen]]:
        """The float graph, equalised or not, and what its inner values are on the calibration images."""
        if equalized not in self._ready:
            model = onnx.ModelProto()
            model.CopyFrom(self._plain)
            if equalized:
                equalize(model, self._observed(equalized=False)[1])
            names = float_tensors(model, [node for node in model.graph.node if node.op_type in _OPERATORS])
            self._ready[equalized] = model, observe(model, names, self._images)
        return self._ready[equalized]

    def _between(self) -> "_Between":
        return _Between(self._folder)


class _Between:
    """A folder for files in between; what ONNX says of one that was cut off is told as what it is."""

    def __init__(self, folder: Path) -> None:
        self._parent = folder

    def __enter__(self) -> Path:
        logging.getLogger().addFilter(_quiet)
        self._folder = tempfile.TemporaryDirectory(dir=self._parent)
        return Path(self._folder.name)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        logging.getLogger().removeFilter(_quiet)
        self._folder.cleanup()
        if isinstance(error, _CUT_OFF):
            words = str(error).splitlines()[0]
            raise OSError(
                f"a file that quantization needs in between, in {self._parent}, could not be read back ({words}): it is cut off, "
                "as on a full disk; see that there is room (`df -h .`) and run the same command again"
            ) from error


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def _split(model: onnx.ModelProto) -> list[list[onnx.NodeProto]]:
    """The layers of a graph: each convolution or product of weights with the quantizable nodes up to the next one."""
    weights = {tensor.name for tensor in model.graph.initializer}
    layers: list[list[onnx.NodeProto]] = []
    for node in model.graph.node:
        if node.op_type in _PRODUCTS and len(node.input) > 1 and node.input[1] in weights:
            layers.append([node])
        elif layers and node.op_type in _OPERATORS:
            layers[-1].append(node)
    return layers


def _before_the_network(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes before the first convolution or product: they see raw pixels."""
    names = []
    for node in model.graph.node:
        if node.op_type in _PRODUCTS:
            break
        names.append(node.name)
    return names
