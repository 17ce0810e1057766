"""Parameters of evaluation: how much is measured, and under which conditions."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

NAMES = {
    "occlusion": ("patch", "grid", "stripes", "foreign patch"),
    "illumination": ("exposure", "contrast", "gamma", "low light", "shadow", "colour temperature"),
    "noise": ("gaussian", "salt and pepper"),
}
"""Names of the conditions by family, as rules of the gate may name them: those of `conditions.py`, known without torch."""
COLOUR_ONLY = ("colour temperature",)
"""Conditions that grey images are not measured under."""


@dataclass(frozen=True, kw_only=True)
class EvaluateParams:
    """How candidates are measured."""

    stress_images: Annotated[int, Field(ge=1)] = 2000
    """Test images, evenly over the classes, on which conditions are measured; the clean score takes them all."""
    families: tuple[Literal["occlusion", "illumination", "noise"], ...] = (
        "occlusion",
        "illumination",
        "noise",
    )
    bootstrap: Annotated[int, Field(ge=10)] = 1000
    """Resamples of the source images behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    batch_size: Annotated[int, Field(ge=1)] = 256

    def conditions(self, *, channels: int) -> dict[str, tuple[str, ...]]:
        """Names of the conditions that will be measured, by family, on images of so many channels."""
        skipped = () if channels == 3 else COLOUR_ONLY
        return {
            family: tuple(name for name in NAMES[family] if name not in skipped) for family in self.families
        }
