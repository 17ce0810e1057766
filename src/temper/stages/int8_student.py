"""The int8 student: the search at work on files, and what it came to, in words."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from temper.compress.half import halve
from temper.compress.params import QuantizeParams
from temper.compress.quantizer import Quantizer, Setting
from temper.compress.ranges import METHODS
from temper.compress.search import Search, Tried, search
from temper.stages.int8_comparison import Comparison, Held

PRECISION = "temper.precision"
"""Key of a file's metadata: in which numbers it computes."""
_DRIFT_IMAGES = 256
"""Validation images on which single layers are tried: enough to order them."""
_SLOW_S = 60
"""A search that may take longer than this says so before it begins."""


def quantize_student(
    out: Path,
    images: np.ndarray,
    comparison: Comparison,
    params: QuantizeParams,
    *,
    headline: str,
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    """Write `quantized.onnx` from `student.onnx`: int8 where a setting holds, else fp16 weights; says which, and why.

    Args:
        out: Folder with `student.onnx`.
        images: Calibration images.
        comparison: With the float student, on the validation split.
        params: What may be tried.
        headline: Name of the score that is compared.
        metadata: What the file shall say about itself.

    Returns:
        JSON values for the artifact: `precision`, `why`, the setting, every trial, and the gap to the float student's answers.
    """
    target, student = out / "quantized.onnx", out / "student.onnx"
    quantizer = Quantizer(student, images, out)
    held: dict[Setting, Held] = {}
    started = time.monotonic()

    def write(setting: Setting) -> None:
        words = describe(setting, quantizer.layers)
        quantizer.make(setting, target, {**metadata, PRECISION: words})

    def attempt(setting: Setting) -> Tried:
        write(setting)
        held[setting] = comparison.ask(target)
        if len(held) == 1 and not held[setting].holds:
            _announce(params.max_trials, time.monotonic() - started)
        return Tried(setting, held[setting].holds, held[setting].gap, held[setting].describe(headline))

    def drift(setting: Setting) -> float:
        write(setting)
        return comparison.drift(target, _DRIFT_IMAGES)

    found = search(
        attempt,
        drift,
        num_layers=len(quantizer.layers),
        ranges=METHODS if params.calibration == "auto" else (params.calibration,),
        max_trials=params.max_trials,
    )
    if found.chosen is None:
        precision = "fp16 weights, float arithmetic"
        halve(student, target, metadata={**metadata, PRECISION: precision})
        last = comparison.ask(target)
    else:
        precision, last = describe(found.chosen.setting, quantizer.layers), held[found.chosen.setting]
        write(found.chosen.setting)
    why = _explain(found, precision, last.describe(headline), len(comparison))
    print(why, file=sys.stdout if found.chosen else sys.stderr)
    return {
        "precision": precision,
        "why": why,
        "gap": last.gap,
        "drop": round(-last.score.value, 6),
        "images": len(comparison),
        **_record(found, quantizer.layers),
    }


def _record(found: Search, layers: tuple[str, ...]) -> dict[str, Any]:
    """Which layers stayed in float, and every trial, as JSON values."""
    floats = range(len(layers)) if found.chosen is None else sorted(found.chosen.setting.floats)
    return {
        "layers": len(layers),
        "float_layers": [layers[number] for number in floats],
        "tried": [
            {"setting": describe(each.setting, layers), "holds": each.holds, "found": each.found}
            for each in found.tried
        ],
    }


def describe(setting: Setting, layers: tuple[str, ...]) -> str:
    """A setting in words."""
    words = f"int8, ranges {setting.ranges}" + (", channels equalised" if setting.equalized else "")
    if setting.floats:
        named = ", ".join(layers[number] for number in sorted(setting.floats))
        words += f", in float: layer{'s' if len(setting.floats) > 1 else ''} {named}"
    return words


def _announce(max_trials: int, seconds: float) -> None:
    if max_trials * seconds > _SLOW_S:
        print(
            f"int8 drifts from the float student; looking for a setting that holds: at most {max_trials - 1} more, about {seconds:.1f} s each "
            "(quantize.max_trials)",
            flush=True,
        )


def _explain(found: Search, precision: str, words: str, images: int) -> str:
    tries = f"{len(found.tried)} setting{'s' if len(found.tried) > 1 else ''} tried"
    if found.chosen is not None:
        return f"{precision}: {words} on {images} validation images; {tries}"
    best = min(found.tried, key=lambda each: each.drift)
    return (
        f"WARNING: no int8 student is as good as the float one ({tries}; the nearest: {best.found}). The float student with fp16 weights is "
        f"the candidate: {words}. It is half the size of the float file and no faster. Likely causes: logits or activations without a "
        "bound (train longer or at a lower distill.fit.lr, distill.terms.share below 1), too few quantize.calibration_images; "
        "quantize.max_drop and quantize.max_trials say what holds and how much is tried"
    )
