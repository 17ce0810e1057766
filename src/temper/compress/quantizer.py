"""Static int8 quantization of an exported network: QDQ, weights per channel, ranges from training images.

Convolutions and matrix products run in int8, with the additions, ReLUs and poolings between them. Resizing,
normalisation and read-out stay in float, because they are cheap and define the file's interface. A `Setting`
says how ranges are chosen, whether channels are equalised and which layers stay in float. `search` looks for
a setting that holds. Left out: quantization-aware training.

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
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NoSuchFile
from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.calibrate import CalibrationMethod, TensorsData, save_tensors_data
from onnxruntime.quantization.shape_inference import quant_pre_process

from temper.compress.equalize import equalize
from temper.compress.export import write_model
from temper.compress.ranges import Method, Seen, float_tensors, observe
from temper.networks.onnx_model import Given

_PRODUCTS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_OPERATORS = [*_PRODUCTS, "Add", "Relu", "Clip", "MaxPool", "GlobalAveragePool", "AveragePool", "ReduceMean"]
_CUT_OFF = (DecodeError, Fail, InvalidGraph, InvalidProtobuf, NoSuchFile)
"""Errors of ONNX and its runtime about one of their own files that a full disk truncated.

Neither checks whether it could write a file completely.
"""


@dataclass(frozen=True)
class Setting:
    """How a network is converted to int8."""

    ranges: Method = "minmax"
    equalized: bool = False
    """Whether the outliers of channels are moved into the weights that read the channels."""
    floats: frozenset[int] = frozenset()
    """Indices in `Quantizer.layers` of the layers that stay in float."""


class Quantizer:
    """Makes int8 versions of one exported file; the work that they share is done only once.

    Args:
        source: fp32 ONNX file, from `export`.
        given: Examples that set the activations' ranges, as they are packed.
        folder: Folder for temporary files, which are removed again.

    Attributes:
        layers: Descriptions of the layers that can stay in float, in order. A layer is a convolution or
            product, and the operators that follow it.

    Raises:
        OSError: If a temporary file could not be written completely.
    """

    def __init__(self, source: Path, given: Given, folder: Path) -> None:
        self._given, self._folder = given, folder
        with self._temporary_folder() as temporary:
            plain = temporary / "plain.onnx"
            quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
            self._plain = onnx.load(plain)
        self._nodes = _split(self._plain)
        weights = {tensor.name: "x".join(map(str, tensor.dims)) for tensor in self._plain.graph.initializer}
        total = len(self._nodes)
        self.layers = tuple(
            f"{number} of {total} ({nodes[0].op_type} {weights.get(nodes[0].input[1], '')})".replace(
                " )", ")"
            )
            for number, nodes in enumerate(self._nodes, 1)
        )
        self._ready: dict[bool, tuple[onnx.ModelProto, dict[str, Seen]]] = {}

    def make(self, setting: Setting, target: Path, metadata: Mapping[str, str]) -> None:
        """Write the int8 version for a setting.

        Args:
            setting: How the network is converted.
            target: Target file.
            metadata: Metadata of the target file.

        Raises:
            OSError: If a temporary file could not be written completely.
        """
        model, seen = self._observed(equalized=setting.equalized)
        ranges = {
            name: tuple(np.array(end, np.float32) for end in found.clipped(setting.ranges))
            for name, found in seen.items()
        }
        kept = [node.name for number in sorted(setting.floats) for node in self._nodes[number]]
        with self._temporary_folder() as temporary:
            raw, cache = temporary / "int8.onnx", temporary / "ranges.json"
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
        """Return the float graph, equalised or not, and its inner values on the calibration images."""
        if equalized not in self._ready:
            model = onnx.ModelProto()
            model.CopyFrom(self._plain)
            if equalized:
                equalize(model, self._observed(equalized=False)[1])
            names = float_tensors(model, [node for node in model.graph.node if node.op_type in _OPERATORS])
            self._ready[equalized] = model, observe(model, names, self._given)
        return self._ready[equalized]

    def _temporary_folder(self) -> "_TemporaryFolder":
        return _TemporaryFolder(self._folder)


class _TemporaryFolder:
    """A folder for temporary files; it turns ONNX's errors about a truncated file into a clear OSError."""

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
            reason = str(error).splitlines()[0]
            raise OSError(
                f"a temporary file of the quantization in {self._parent} could not be read back ({reason}): "
                "it is truncated, probably because the disk is full; "
                "make sure that there is free space (`df -h .`) and run the same command again"
            ) from error


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def _split(model: onnx.ModelProto) -> list[list[onnx.NodeProto]]:
    """Split a graph into layers.

    A layer is a convolution or a product with weights, and the quantizable nodes up to the next layer.
    """
    weights = {tensor.name for tensor in model.graph.initializer}
    layers: list[list[onnx.NodeProto]] = []
    for node in model.graph.node:
        if node.op_type in _PRODUCTS and len(node.input) > 1 and node.input[1] in weights:
            layers.append([node])
        elif layers and node.op_type in _OPERATORS:
            layers[-1].append(node)
    return layers


def _before_the_network(model: onnx.ModelProto) -> list[str]:
    """Return the names of the nodes before the first convolution or product; they process raw pixels."""
    names = []
    for node in model.graph.node:
        if node.op_type in _PRODUCTS:
            break
        names.append(node.name)
    return names
