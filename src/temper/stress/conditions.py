"""All conditions under which candidates are measured, with the strengths of their five severities.

A condition is a function that changes whole batches, and a record that describes it. To add a condition,
write the function, add a record to `CONDITIONS` and add its name to `NAMES` in params.py. The laws in
tests/laws/test_conditions.py, the evaluation, the plots and the card then include it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Int64, UInt8
from torch import Tensor

from temper.stress import illumination, noise, occlusion
from temper.stress.pool import Pool, Stressed

SEVERITIES = (1, 2, 3, 4, 5)
"""Severities of stress; severity 0 is the unchanged image."""


@runtime_checkable
class Apply(Protocol):
    """A function that changes images: the same seed and key give the same image in every batch."""

    def __call__(
        self,
        images: UInt8[Tensor, "batch channels height width"],
        keys: Int64[Tensor, "batch"],
        strength: float,
        /,
        *,
        seed: int,
        pool: Pool,
    ) -> Stressed: ...


@dataclass(frozen=True)
class Condition:
    """A way in which an image may be worse than the training images."""

    name: str
    family: str
    apply: Apply
    strengths: tuple[float, float, float, float, float]
    """Strengths that `apply` gets at severities 1 to 5; they increase."""
    unit: str
    """Unit of the strengths, as printed in plots and tables."""
    channels: tuple[int, ...] = (1, 3)
    """Numbers of channels of the images that the condition can act on."""
    on_objects: bool = False
    """Whether the condition needs the boxes of objects."""


# Shares of the area: from a tenth to more than half.
_COVERED = (0.1, 0.2, 0.3, 0.45, 0.6)
# Shares of each object's box: less than `HIDDEN_SHARE`, so that objects apart from others stay true.
_OBJECTS_COVERED = (0.2, 0.3, 0.4, 0.5, 0.6)

CONDITIONS = (
    Condition("patch", "occlusion", occlusion.patch, _COVERED, "share covered"),
    Condition("grid", "occlusion", occlusion.grid, _COVERED, "share covered"),
    Condition("stripes", "occlusion", occlusion.stripes, _COVERED, "share covered"),
    Condition("foreign patch", "occlusion", occlusion.foreign_patch, _COVERED, "share covered"),
    Condition(
        "patch on objects",
        "occlusion",
        occlusion.patch_on_objects,
        _OBJECTS_COVERED,
        "share of each box covered",
        on_objects=True,
    ),
    Condition(
        "foreign patch on objects",
        "occlusion",
        occlusion.foreign_patch_on_objects,
        _OBJECTS_COVERED,
        "share of each box covered",
        on_objects=True,
    ),
    # Half a stop is a usual error of automatic exposure; three stops are a factor of eight.
    Condition("exposure", "illumination", illumination.exposure, (0.5, 1.0, 1.5, 2.0, 3.0), "stops"),
    # The remaining contrast is 0.75, 0.5, 0.4, 0.3, 0.15, as in CIFAR-10-C:
    # Hendrycks and Dietterich 2019, arXiv:1903.12261.
    Condition("contrast", "illumination", illumination.contrast, (0.25, 0.5, 0.6, 0.7, 0.85), "share lost"),
    # Gamma 1.25, 1.5, 2, 2.5, 3; omitting a display's whole curve would be about 2.2.
    Condition(
        "gamma", "illumination", illumination.gamma, (0.32, 0.58, 1.0, 1.32, 1.58), "log2 of the exponent"
    ),
    # From shade on a bright day to a street at dusk, in steps of one stop.
    Condition("low light", "illumination", illumination.low_light, (1.0, 2.0, 3.0, 4.0, 5.0), "stops"),
    # From the shadow of a cloud to one that blocks almost all direct light.
    Condition("shadow", "illumination", illumination.shadow, (0.4, 0.6, 0.75, 0.875, 0.95), "share blocked"),
    # 100 mireds: daylight of 6500 K becomes a lamp of 3940 K, or the blue sky of 18600 K.
    Condition(
        "colour temperature",
        "illumination",
        illumination.colour_temperature,
        (20.0, 40.0, 60.0, 80.0, 100.0),
        "mireds",
        channels=(3,),
    ),
    # As gaussian_noise and impulse_noise of ImageNet-C: Hendrycks and Dietterich 2019, arXiv:1903.12261.
    Condition("gaussian", "noise", noise.gaussian, (0.08, 0.12, 0.18, 0.26, 0.38), "deviation, full range 1"),
    Condition("salt and pepper", "noise", noise.salt_and_pepper, (0.03, 0.06, 0.09, 0.17, 0.27), "share hit"),
)


def applicable(families: Sequence[str], pool: Pool) -> tuple[Condition, ...]:
    """Return the conditions of the given families that can act on the pictures of a pool."""
    return tuple(
        item
        for item in CONDITIONS
        if item.family in families
        and pool.channels in item.channels
        and (pool.boxes is not None or not item.on_objects)
    )


def stress(
    condition: Condition,
    images: UInt8[Tensor, "batch channels height width"],
    *,
    keys: Int64[Tensor, "batch"],
    severity: int,
    seed: int,
    pool: Pool,
) -> Stressed:
    """Apply a condition to images.

    Args:
        condition: The condition to apply.
        images: Raw pixels.
        keys: Numbers of the images in the pool; randomness depends only on them and on the seed.
        severity: 0 (the images stay unchanged) to 5.
        seed: Seed of the run.
        pool: Images from which patches may be taken.

    Raises:
        ValueError: If the severity is not one of 0 to 5.
    """
    if severity == 0:
        return Stressed(images)
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity!r} of {condition.name!r}: must be a whole number from 0 to 5")
    return condition.apply(images, keys, condition.strengths[severity - 1], seed=seed, pool=pool)
