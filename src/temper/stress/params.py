"""Parameters of evaluation: how much is measured, and under which conditions."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class EvaluateParams:
    """How candidates are measured."""

    stress_images: Annotated[int, Field(ge=1)] = 2000
    """Test pictures, evenly over the classes, on which conditions are measured; the clean score takes them all."""
    families: tuple[Literal["occlusion", "illumination", "noise"], ...] = ("occlusion", "illumination", "noise")
    bootstrap: Annotated[int, Field(ge=10)] = 1000
    """Resamples of the source pictures behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    batch_size: Annotated[int, Field(ge=1)] = 256
