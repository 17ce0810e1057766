"""Parameters of distillation and quantization."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class DistillationTerms:
    """What the student is asked for."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Weight of the distillation term; the supervised term has the rest."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    logits: Literal["z-scored", "raw"] = "z-scored"
    """`z-scored` compares standardised logits (LSKD); `raw` compares the calibrated ones (Hinton)."""


@dataclass(frozen=True, kw_only=True)
class QuantizeParams:
    """Static int8 quantization of the student, and when it counts as good enough (`docs/quantize.md`)."""

    calibration_images: Annotated[int, Field(ge=16)] = 512
    """Training images that set the ranges of the activations."""
    calibration: Literal["auto", "minmax", "percentile", "mse"] = "auto"
    """How ranges are chosen; `auto` tries them in this order until one holds."""
    check_images: Annotated[int, Field(ge=16)] = 2000
    """Validation images, at most, on which int8 is compared with its float parent."""
    max_drop: Annotated[float, Field(gt=0, le=1)] = 0.01
    """int8 holds if the one-sided bounds of what it loses, in the headline score and in the mean error of its answers, lie within this; or
    within three images' worth, where the validation split is too small to show less."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of these bounds."""
    max_trials: Annotated[int, Field(ge=1)] = 40
    """Settings that may be tried before the float student, with fp16 weights, becomes the candidate."""
    parity_images: Annotated[int, Field(ge=16)] = 512
    """Validation images on which every exported float file is compared with torch before it counts."""
    max_parity_gap: Annotated[float, Field(gt=0)] = 5e-3
    """Largest difference of an fp32 file's answers from torch's; of whole-number answers, the largest share that differs."""
    features: tuple[str, ...] = ()
    """What the student's files give besides the answer, as outputs of these names: `embedding` (the vector before a classifier's
    last layer), or any part of the network by its path (`backbone.stages.1`)."""
