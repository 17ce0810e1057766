"""Static int8 quantization of an exported network: QDQ, weights per channel, ranges from training pictures.

Convolutions and matrix products, with the additions and poolings between them, run in int8; resizing, normalisation and
read-out stay in float, since they are cheap and carry the file's contract. Left out: quantization-aware training.

Source:
    Wu et al. 2020, arXiv:2004.09602, sections 3 and 5 (per-channel weights, activation calibration).
"""

import logging
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnxruntime.capi.onnxruntime_pybind11_state import Fail, InvalidGraph, InvalidProtobuf, NoSuchFile
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)
from onnxruntime.quantization.shape_inference import quant_pre_process

from temper.compress.export import write_model

_OPERATORS = ["Conv", "Gemm", "MatMul", "Add", "MaxPool", "GlobalAveragePool", "AveragePool", "ReduceMean"]
_CALIBRATION_BATCH = 64
_CUT_OFF = (DecodeError, Fail, InvalidGraph, InvalidProtobuf, NoSuchFile)
"""What ONNX and its runtime raise about a file of their own that a full disk cut off: they do not look whether they could write."""
_METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


class _Pictures(CalibrationDataReader):  # type: ignore[misc]
    """Hands out calibration pictures in batches."""

    def __init__(self, images: np.ndarray) -> None:
        self._batches: Iterator[dict[str, np.ndarray]] = iter(
            {"image": images[start : start + _CALIBRATION_BATCH]} for start in range(0, len(images), _CALIBRATION_BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def quantize(
    source: Path,
    target: Path,
    images: np.ndarray,
    *,
    method: Literal["minmax", "entropy", "percentile"],
    metadata: Mapping[str, str],
) -> None:
    """Write the int8 version of an exported file.

    Args:
        source: fp32 ONNX file, from `export`.
        target: Where to.
        images: uint8 pictures [N, H, W, C] that set the activations' ranges.
        method: How ranges are taken from what was seen.
        metadata: What the file shall say about itself.

    Raises:
        OSError: If one of the files in between could not be written whole.
    """
    logging.getLogger().addFilter(_quiet)
    try:
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            model = _quantized(source, Path(folder), images, method)
    except _CUT_OFF as error:
        words = str(error).splitlines()[0]
        raise OSError(
            f"a file that quantization needs in between, beside {target}, could not be read back ({words}): it is cut off, "
            "as on a full disk; see that there is room (`df -h .`) and run the same command again"
        ) from error
    finally:
        logging.getLogger().removeFilter(_quiet)
    write_model(model, target, metadata)


def _quantized(source: Path, folder: Path, images: np.ndarray, method: str) -> onnx.ModelProto:
    """The int8 model; its libraries write and read files in between, in `folder`."""
    plain, raw = folder / "plain.onnx", folder / "int8.onnx"
    quant_pre_process(str(source), str(plain), skip_symbolic_shape=True)
    quantize_static(
        str(plain),
        str(raw),
        _Pictures(images),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=_METHODS[method],
        op_types_to_quantize=_OPERATORS,
        nodes_to_exclude=_before_the_network(onnx.load(plain)),
        extra_options={"QuantizeBias": True},
    )
    return onnx.load(raw)


def _quiet(record: logging.LogRecord) -> bool:
    return record.levelno > logging.WARNING


def _before_the_network(model: onnx.ModelProto) -> list[str]:
    """Names of the nodes before the first convolution or product: they see raw pixels."""
    names = []
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm", "MatMul"):
            break
        names.append(node.name)
    return names
