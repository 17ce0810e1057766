"""Parameters of the batches of a training: which examples are drawn, and how each is changed."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from temper.data.augmentation.params import Count, Share, Transforms, known_transforms
from temper.fields import View

Fraction = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """Choice of the examples of each batch. The repeats and weights of augment.balance apply as well."""

    method: Literal["shuffle", "oversample", "undersample", "class-aware", "weighted"] = "shuffle"
    """`shuffle`: every example, in a new order per epoch. `oversample`: as many examples of each stratum as
    of the largest one. `undersample`: as many examples of each stratum as of the smallest one, other
    examples in every epoch. `class-aware`: every batch has equally many examples of each of its strata.
    `weighted`: examples are drawn with replacement, in proportion to augment's weights, which then do not
    affect the loss."""
    strength: Share = 1.0
    """For `oversample` and `undersample`: 0 leaves the counts as they are, 1 makes them equal."""
    classes: Count = 0
    """For `class-aware`: number of strata in a batch, each with batch_size / classes examples; 0 means
    all."""


@dataclass(frozen=True, kw_only=True)
class ViewParams:
    """Augmentation during training, different in every epoch."""

    flip: bool = False
    """Whether to mirror images left to right: each image in every other epoch."""
    crop_px: Count = 0
    """Largest random shift in pixels, vertically and horizontally."""
    cutout_px: Count = 0
    """Side in pixels of the square that cutout erases; 0 turns cutout off."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Parameter of mixup's beta distribution; 0 turns mixup off."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Parameter of CutMix's beta distribution; 0 turns CutMix off."""
    mix_share: Share = 0.5
    """Share of the batches that are mixed, if mixup or CutMix is on."""
    crop_scale: tuple[Fraction, Fraction] | None = None
    """Random resized crop: smallest and largest share of the image's area, e.g. [0.25, 1]. null uses the
    whole image."""
    crop_ratio: tuple[Ratio, Ratio] = (0.75, 4 / 3)
    """Random resized crop: smallest and largest width / height of the crop."""
    scale: tuple[Ratio, Ratio] | None = None
    """Random scale and place: smallest and largest factor by which an image is made larger, e.g. [0.5, 2].
    Proportions stay. A smaller image gets a grey border. Of a larger one a part is seen, with an object in it
    if the image has any. null keeps the scale."""
    mosaic: Share = 0.0
    """Share of the images that are mosaics: parts of four images, side by side, with their objects."""
    policy: Annotated[Transforms, AfterValidator(known_transforms("views.policy"))] = ()
    """albumentations transforms in order, as in `augment.policy`. Their random numbers are drawn again for
    every image in every epoch."""
    workers: Count = 0
    """Number of threads (processes if there is a policy) that decode images ahead of training; 0 means one
    per core. Batches do not depend on it."""

    def __post_init__(self) -> None:
        for name, pair in (
            ("crop_scale", self.crop_scale),
            ("crop_ratio", self.crop_ratio),
            ("scale", self.scale),
        ):
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name} = {list(pair)}: write the smaller number first")
        if self.crop_scale and (self.scale or self.mosaic):
            raise ValueError(
                f"crop_scale = {list(self.crop_scale)}: random crops exclude random scales and mosaics; "
                "leave crop_scale out, and set scale"
            )

    @property
    def used(self) -> frozenset[View]:
        """The views that are on, besides those of the policy."""
        on: dict[View, object] = {
            "flip": self.flip,
            "shift": self.crop_px,
            "crop": self.crop_scale,
            "scale": self.scale,
            "mosaic": self.mosaic,
            "cutout": self.cutout_px,
            "mixup": self.mixup,
            "cutmix": self.cutmix,
        }
        return frozenset(name for name, value in on.items() if value)

    @property
    def per_image(self) -> bool:
        """Whether workers make some of the views image by image, instead of whole batches at once."""
        return bool(self.crop_scale or self.scale or self.mosaic or self.policy)
