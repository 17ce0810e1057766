"""Every condition under which candidates are measured, with the strengths of its five severities.

A condition is a function of whole batches and a record about it. To add one, write the function and put a record into
`CONDITIONS`; the laws in tests/laws/test_conditions.py, the evaluation, the plots and the card then know it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jaxtyping import Int64, UInt8
from torch import Tensor

from temper.problem import Targets
from temper.stress import illumination, noise, occlusion
from temper.stress.image_pool import ImagePool

SEVERITIES = (1, 2, 3, 4, 5)
"""0 is the image as it is."""


@runtime_checkable
class Apply(Protocol):
    """How a condition changes images; same seed and key, same image, whatever the batch."""

    def __call__(
        self,
        images: UInt8[Tensor, "batch channels height width"],
        keys: Int64[Tensor, "batch"],
        strength: float,
        /,
        *,
        seed: int,
        pool: ImagePool,
    ) -> UInt8[Tensor, "batch channels height width"]: ...


def unchanged(targets: Targets) -> Targets:
    """What is true stays true, seen or not."""
    return targets


@dataclass(frozen=True)
class Condition:
    """A way in which an image may be worse than those trained on."""

    name: str
    family: str
    apply: Apply
    strengths: tuple[float, float, float, float, float]
    """What `apply` is given at severities 1 to 5; grows."""
    unit: str
    """Of the strengths, as plots and tables say it."""
    channels: tuple[int, ...] = (1, 3)
    """Images with so many channels it can act on."""
    retarget: Callable[[Targets], Targets] = unchanged
    """What happens to the truth; a visibility rule may stand here."""


# Shares of the area: from a tenth to more than half.
_COVERED = (0.1, 0.2, 0.3, 0.45, 0.6)

CONDITIONS = (
    Condition("patch", "occlusion", occlusion.patch, _COVERED, "share covered"),
    Condition("grid", "occlusion", occlusion.grid, _COVERED, "share covered"),
    Condition("stripes", "occlusion", occlusion.stripes, _COVERED, "share covered"),
    Condition("foreign patch", "occlusion", occlusion.foreign_patch, _COVERED, "share covered"),
    # Half a stop is what an automatic exposure gets wrong; three are a factor of eight.
    Condition("exposure", "illumination", illumination.exposure, (0.5, 1.0, 1.5, 2.0, 3.0), "stops"),
    # Contrast left 0.75, 0.5, 0.4, 0.3, 0.15: CIFAR-10-C, Hendrycks and Dietterich 2019, arXiv:1903.12261.
    Condition("contrast", "illumination", illumination.contrast, (0.25, 0.5, 0.6, 0.7, 0.85), "share lost"),
    # Gamma 1.25, 1.5, 2, 2.5, 3; leaving out a display's whole curve would be about 2.2.
    Condition(
        "gamma", "illumination", illumination.gamma, (0.32, 0.58, 1.0, 1.32, 1.58), "log2 of the exponent"
    ),
    # From shade on a bright day to a street at dusk, in steps of one stop.
    Condition("low light", "illumination", illumination.low_light, (1.0, 2.0, 3.0, 4.0, 5.0), "stops"),
    # From a cloud's to almost all of the direct light.
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
    # ImageNet-C, Hendrycks and Dietterich 2019, arXiv:1903.12261: gaussian_noise and impulse_noise.
    Condition("gaussian", "noise", noise.gaussian, (0.08, 0.12, 0.18, 0.26, 0.38), "deviation, full range 1"),
    Condition("salt and pepper", "noise", noise.salt_and_pepper, (0.03, 0.06, 0.09, 0.17, 0.27), "share hit"),
)


def applicable(families: Sequence[str], *, channels: int) -> tuple[Condition, ...]:
    """The conditions of some families that can act on images of so many channels."""
    return tuple(item for item in CONDITIONS if item.family in families and channels in item.channels)


def stress(
    condition: Condition,
    images: UInt8[Tensor, "batch channels height width"],
    *,
    keys: Int64[Tensor, "batch"],
    severity: int,
    seed: int,
    pool: ImagePool,
) -> UInt8[Tensor, "batch channels height width"]:
    """Images under a condition.

    Args:
        condition: What happens to them.
        images: Raw pixels.
        keys: The images' numbers in the pool; randomness depends on them and the seed alone.
        severity: 0 (nothing happens) to 5.
        seed: The seed of the whole.
        pool: Images that may lend patches.

    Raises:
        ValueError: If the severity is none of 0 to 5.
    """
    if severity == 0:
        return images
    if severity not in SEVERITIES:
        raise ValueError(f"severity {severity!r} of {condition.name!r}: must be a whole number from 0 to 5")
    return condition.apply(images, keys, condition.strengths[severity - 1], seed=seed, pool=pool)
