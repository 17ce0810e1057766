"""Parameters of the data room: where images come from, how they are checked, split, rebalanced and augmented."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

Transforms = tuple[dict[str, Any], ...]


def _known_transforms(where: str) -> Callable[[Transforms], Transforms]:
    def check(policy: Transforms) -> Transforms:
        # Late: albumentations takes seconds to import, and most projects have no policy.
        if policy:
            from temper.data.augmentation.albumentations_policy import build

            build(policy, where)
        return policy

    return check


Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class FashionMnist:
    """70,000 grey images of clothes, 28x28, with an official test split."""

    source: Literal["fashion-mnist"]
    folder: str | None = None
    """Folder with the four gzipped IDX files; tried first."""


@dataclass(frozen=True, kw_only=True)
class Digits:
    """scikit-learn's 1,797 grey handwritten digits, 8x8; needs no network."""

    source: Literal["digits"]


@dataclass(frozen=True, kw_only=True)
class ImageFolder:
    """A folder of class-named folders of images, optionally under `train/`, `validation/` and `test/`."""

    source: Literal["imagefolder"]
    folder: str
    """Relative to the project, or absolute."""


@dataclass(frozen=True, kw_only=True)
class Table:
    """A CSV or Parquet file with a row per image: path, labels or mask, optionally split and group."""

    source: Literal["table"]
    file: str
    """Relative to the project, or absolute; its images' paths are relative to its folder."""
    path: str = "path"
    """Name of the column of images' paths."""
    labels: str | None = "labels"
    """Name of the column of labels (several joined by `;`), or null."""
    mask: str | None = None
    """Name of the column of masks' paths, or null."""
    split: str | None = None
    """Name of the column of splits (train, validation, test), or null."""
    group: str | None = None
    """Name of the column of groups that never cross splits, or null."""


@dataclass(frozen=True, kw_only=True)
class Toys:
    """Generated images of simple shapes, made to try the machinery without data."""

    source: Literal["toys"]
    truth: Literal["class", "labels", "mask"] = "class"
    """What is told about each image: its one shape, all its shapes, or a mask of them."""
    count: Annotated[int, Field(ge=20)] = 300
    size_px: Annotated[int, Field(ge=12)] = 24
    channels: Literal[1, 3] = 3
    seed: int = 0


AnySource = Annotated[FashionMnist | Digits | ImageFolder | Table | Toys, Field(discriminator="source")]


@dataclass(frozen=True, kw_only=True)
class PrepareParams:
    """How images are checked, unified and split."""

    height_px: Annotated[int, Field(ge=8)]
    width_px: Annotated[int, Field(ge=8)]
    mode: Literal["auto", "grey", "colour"] = "auto"
    """`auto` keeps grey only where every image is grey."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training examples that serves every choice, where the source fixes no validation split."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of all examples kept for the last measurement, where the source fixes no test split."""
    splits: str = "splits.parquet"
    """File, relative to the project, with the splits of images that were split before (`digest`, `split`): they stay as they are. Where
    there is none, all are drawn. A run keeps it when new images arrive; delete it to draw anew."""
    max_bad_share: Share = 0.01
    """More unreadable images than this stop the chain."""
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    """An image with more pixels is refused unread."""
    max_side_px: Annotated[int, Field(ge=1)] = 20_000
    """An image wider or higher than this is refused unread."""
    keep: Literal["pixels", "encoded"] = "pixels"
    """Training images as `pixels` of one size in one array, or `encoded` (JPEG, PNG) in their own sizes, decoded while training."""
    shrink_px: Count = 0
    """With `keep: encoded`, images whose longer side exceeds this are shrunk to it, once; 0 keeps every size."""

    def __post_init__(self) -> None:
        if self.shrink_px and self.keep == "pixels":
            raise ValueError(
                f"shrink_px = {self.shrink_px}, but prepare.keep is pixels, which brings every image to height_px x width_px "
                "anyway; set prepare.keep to encoded or shrink_px to 0"
            )


@dataclass(frozen=True, kw_only=True)
class BalanceParams:
    """What is done about classes of unlike size."""

    method: Literal["none", "oversample", "undersample", "weights", "costs", "logit-adjustment"] = "none"
    strength: Share = 1.0
    """0 leaves the counts as they are, 1 makes them equal (oversample, undersample); scales offsets (logit-adjustment)."""
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """Of the effective number (1 - beta^n) / (1 - beta), for `weights`."""
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """`{true class: {said class: cost}}`, for `costs`; what is not named costs 0."""


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """Rebalancing, and images made from the training images before training starts."""

    balance: BalanceParams = field(default_factory=BalanceParams)
    views: Count = 0
    """Augmented images materialised per training image."""
    policy: Annotated[Transforms, AfterValidator(_known_transforms("augment.policy"))] = ()
    """albumentations transforms in order, each `{name: ..., <argument>: ...}`."""
    workers: Count = 0
    """Worker processes; 0 takes one per core. The images are the same whatever it is."""

    def __post_init__(self) -> None:
        if self.views and not self.policy:
            raise ValueError(
                f"views = {self.views}, but the policy is empty: the views would be plain copies; "
                "name transforms in augment.policy or set augment.views to 0"
            )


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How the batches of a training are made up; what augment.balance repeats or weighs is repeated and weighed besides."""

    method: Literal["shuffle", "oversample", "undersample", "class-aware", "weighted"] = "shuffle"
    """`shuffle`: every example in a new order. `oversample`, `undersample`: as many of each stratum as of the largest, the
    smallest; undersampling takes others in every epoch. `class-aware`: every batch holds its strata evenly. `weighted`: drawn with
    replacement, in proportion to augment's weights, which then leave the loss alone."""
    strength: Share = 1.0
    """0 leaves the counts as they are, 1 makes them equal (oversample, undersample)."""
    classes: Count = 0
    """Strata in a batch, for `class-aware`, each with batch_size / classes examples; 0 takes all."""


@dataclass(frozen=True, kw_only=True)
class ViewParams:
    """Augmentation while training, fresh in every epoch."""

    flip: bool = False
    """Mirror left-right: each image in every other epoch."""
    crop_px: Count = 0
    """Shift by up to so many pixels in both directions."""
    cutout_px: Count = 0
    """Side of the square that is wiped out."""
    mixup: Annotated[float, Field(ge=0)] = 0.0
    """Beta-distribution parameter; 0 turns mixup off."""
    cutmix: Annotated[float, Field(ge=0)] = 0.0
    """Beta-distribution parameter; 0 turns cutmix off."""
    mix_share: Share = 0.5
    """Share of the batches that are mixed, where mixup or cutmix is on."""
    crop_scale: tuple[Fraction, Fraction] | None = None
    """Random resized crop: least and largest share of the image's area, e.g. [0.25, 1]; null takes the whole image."""
    crop_ratio: tuple[Ratio, Ratio] = (0.75, 4 / 3)
    """Random resized crop: least and largest width / height of the part."""
    policy: Annotated[Transforms, AfterValidator(_known_transforms("views.policy"))] = ()
    """albumentations transforms in order, as in `augment.policy`; drawn anew for every image in every epoch."""
    workers: Count = 0
    """Threads (processes where there is a policy) that decode ahead of training; 0 takes one per core. Batches do not depend on it."""

    def __post_init__(self) -> None:
        for name, pair in (("crop_scale", self.crop_scale), ("crop_ratio", self.crop_ratio)):
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name} = {list(pair)}: the least comes first")

    @property
    def per_image(self) -> bool:
        """Whether some view is made image by image, by workers, not of whole batches."""
        return self.crop_scale is not None or bool(self.policy)
