"""Search for an int8 student that holds, write its file, and describe the result."""

import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from temper.compress.half import halve
from temper.compress.params import QuantizeParams
from temper.compress.quantizer import Quantizer, Setting
from temper.compress.ranges import METHODS
from temper.compress.search import Search, Tried, search
from temper.networks.onnx_model import Given
from temper.stages.int8_comparison import Comparison, Held

PRECISION = "temper.precision"
"""Key of a file's metadata for the number format in which it computes."""
_DRIFT_IMAGES = 256
"""Validation images on which single layers are tried. They are enough to rank the layers."""
_SLOW_S = 60
"""A search that may take longer than this many seconds is announced before it begins."""


def quantize_student(
    out: Path,
    given: Given,
    comparison: Comparison,
    params: QuantizeParams,
    *,
    headline: str,
    metadata: Mapping[str, str],
) -> dict[str, Any]:
    """Write `quantized.onnx` from `student.onnx`: int8 if a setting holds, otherwise fp16 weights.

    Prints which of them was written, and why.

    Args:
        out: Folder with `student.onnx`.
        given: Calibration examples.
        comparison: Comparison with the float student on the validation split.
        params: Parameters that limit the search.
        headline: Name of the headline score.
        metadata: Metadata for the file.

    Returns:
        JSON values for the artifact: `precision`, `why`, the `gap` to the float student's answers, the `drop`
        of the headline score, the number of `images` compared, the layers left in float, and every trial.
    """
    target, student = out / "quantized.onnx", out / "student.onnx"
    quantizer = Quantizer(student, given, out)
    held: dict[Setting, Held] = {}
    started = time.monotonic()

    def write(setting: Setting) -> None:
        quantizer.make(setting, target, {**metadata, PRECISION: describe(setting, quantizer.layers)})

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
    """Return the layers that stayed in float, and every trial, as JSON values."""
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
    """Return a setting as text."""
    text = f"int8, ranges {setting.ranges}" + (", channels equalised" if setting.equalized else "")
    if setting.floats:
        named = ", ".join(layers[number] for number in sorted(setting.floats))
        text += f", in float: layer{'s' if len(setting.floats) > 1 else ''} {named}"
    return text


def _announce(max_trials: int, seconds: float) -> None:
    if max_trials > 1 and max_trials * seconds > _SLOW_S:
        print(
            "the first int8 setting loses too much against the float student; trying others: at most "
            f"{max_trials - 1} more (quantize.max_trials), about {seconds:.1f} s each",
            flush=True,
        )


def _explain(found: Search, precision: str, result: str, images: int) -> str:
    tries = f"{len(found.tried)} setting{'s' if len(found.tried) > 1 else ''} tried"
    if found.chosen is not None:
        return f"{precision}: {result} on {images} validation images; {tries}"
    best = min(found.tried, key=lambda each: each.drift)
    return (
        f"WARNING: no int8 student is as good as the float one ({tries}; the best one: {best.found}). "
        f"The float student with fp16 weights is the candidate: {result}. "
        "Its file has half the size of the float file and is no faster. "
        "Likely causes: unbounded logits or activations (train longer, lower distill.fit.lr, or set "
        "distill.terms.share below 1), or too few quantize.calibration_images. "
        "quantize.max_drop sets the allowed loss, quantize.max_trials the number of settings to try"
    )
