"""Parameters of distillation and quantization."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class DistillationTerms:
    """The terms of the student's loss, and how the student is compared with the teacher."""

    share: Annotated[float, Field(ge=0, le=1)] = 0.9
    """Weight of the distillation term; the supervised term has the remaining weight."""
    temperature: Annotated[float, Field(gt=0)] = 2.0
    logits: Literal["z-scored", "raw"] = "z-scored"
    """`z-scored` compares standardised logits (LSKD); `raw` compares calibrated logits (Hinton)."""


@dataclass(frozen=True, kw_only=True)
class QuantizeParams:
    """Static int8 quantization of the student, and when the result is good enough (`docs/quantize.md`)."""

    calibration_images: Annotated[int, Field(ge=16)] = 512
    """Number of training images that set the ranges of the activations."""
    calibration: Literal["auto", "minmax", "percentile", "mse"] = "auto"
    """Method for choosing the ranges; `auto` tries the other methods in this order until one holds."""
    check_images: Annotated[int, Field(ge=16)] = 2000
    """Largest number of validation images on which int8 is compared with its float parent."""
    max_drop: Annotated[float, Field(gt=0, le=1)] = 0.01
    """Largest allowed loss. int8 holds if the one-sided bounds of its loss in the headline score and in the
    mean error of its answers lie within this value. If the validation split is too small to show such a small
    loss, the limit is three images' worth."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence level of the bounds for `max_drop`."""
    max_trials: Annotated[int, Field(ge=1)] = 40
    """Number of settings that may be tried before the float student (fp16 weights) is the candidate."""
    parity_images: Annotated[int, Field(ge=16)] = 512
    """Validation images on which every exported float file is compared with torch before it is accepted."""
    max_parity_gap: Annotated[float, Field(gt=0)] = 5e-3
    """Largest allowed difference between an fp32 file's answers and torch's; for whole-number answers, the
    largest share of answers that may differ."""
    features: tuple[str, ...] = ()
    """Additional outputs of the student's files, under these names: `embedding` (the vector before a
    classifier's last layer), or any part of the network by its path (`backbone.stages.1`)."""
