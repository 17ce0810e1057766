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
    """Static int8 quantization of the student."""

    calibration_images: Annotated[int, Field(ge=16)] = 512
    """Training pictures that set the ranges of the activations."""
    calibration: Literal["minmax", "entropy", "percentile"] = "minmax"
    parity_images: Annotated[int, Field(ge=16)] = 512
    """Validation pictures on which every exported file is held against torch before it counts."""
    max_parity_gap: Annotated[float, Field(gt=0)] = 5e-3
    """Largest difference of an fp32 file's answers from torch's; of whole-number answers, the largest share that differs."""
    max_int8_gap: Annotated[float, Field(gt=0, le=1)] = 0.1
    """Mean over pictures of the largest difference of the int8 file's answers from the float student's."""
    features: tuple[str, ...] = ()
    """What the student's files give besides the answer, as outputs of these names: `embedding` (the vector before a classifier's
    last layer), or any part of the network by its path (`backbone.stages.1`)."""
