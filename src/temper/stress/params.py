"""Parameters of evaluation: how much to measure, and under which conditions."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

from temper import fields

NAMES = {
    "occlusion": (
        "patch",
        "grid",
        "stripes",
        "foreign patch",
        "patch on objects",
        "foreign patch on objects",
    ),
    "illumination": ("exposure", "contrast", "gamma", "low light", "shadow", "colour temperature"),
    "noise": ("gaussian", "salt and pepper"),
}
"""Names of the conditions by family, as rules of the gate may use them.

They repeat the names of `conditions.py`, so that they can be read without importing torch.
"""
COLOUR_ONLY = ("colour temperature",)
"""Conditions that do not apply to grey images."""
ON_OBJECTS = ("patch on objects", "foreign patch on objects")
"""Conditions that only apply where the truth has boxes."""


@dataclass(frozen=True, kw_only=True)
class EvaluateParams:
    """How candidates are measured."""

    stress_images: Annotated[int, Field(ge=1)] = 2000
    """Number of test images on which conditions are measured, chosen evenly over the classes; the clean score
    uses all test images."""
    families: tuple[Literal["occlusion", "illumination", "noise"], ...] = (
        "occlusion",
        "illumination",
        "noise",
    )
    bootstrap: Annotated[int, Field(ge=10)] = 1000
    """Number of resamples of the source images behind each confidence interval."""
    confidence: Annotated[float, Field(gt=0, lt=1)] = 0.95
    batch_size: Annotated[int, Field(ge=1)] = 256

    def conditions(self, *, channels: int, truth: Mapping[str, fields.Field]) -> dict[str, tuple[str, ...]]:
        """Return, by family, the names of the conditions to measure.

        Args:
            channels: Number of channels of the images.
            truth: What the columns of the truth contain.
        """
        without_boxes = () if fields.by_layout(truth, "boxes") else ON_OBJECTS
        skipped = (*(() if channels == 3 else COLOUR_ONLY), *without_boxes)
        return {
            family: tuple(name for name in NAMES[family] if name not in skipped) for family in self.families
        }
