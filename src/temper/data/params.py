"""Parameters of the data: where images come from, how they are checked, split, rebalanced and augmented."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from temper.fields import Fit, View

Transforms = tuple[dict[str, Any], ...]


def _known_transforms(where: str) -> Callable[[Transforms], Transforms]:
    def check(policy: Transforms) -> Transforms:
        # Imported late: albumentations takes seconds to import, and most projects have no policy.
        if policy:
            from temper.data.augmentation.albumentations_policy import build

            build(policy, where)
        return policy

    return check


Share = Annotated[float, Field(ge=0, le=1)]
Fraction = Annotated[float, Field(gt=0, le=1)]
Ratio = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=0)]


class Source:
    """A source of images."""

    @property
    def origin(self) -> str | None:
        """The folder of the user to which ids of rows are relative paths; None if there is none."""
        return None


@dataclass(frozen=True, kw_only=True)
class FashionMnist(Source):
    """70,000 grey images of clothes, 28x28, with an official test split."""

    source: Literal["fashion-mnist"]
    folder: str | None = None
    """Folder with the four gzipped IDX files. It is tried before the other ways to get the dataset."""


@dataclass(frozen=True, kw_only=True)
class Digits(Source):
    """scikit-learn's 1,797 grey handwritten digits, 8x8. They need no network."""

    source: Literal["digits"]


@dataclass(frozen=True, kw_only=True)
class ImageFolder(Source):
    """A folder with a subfolder of images per class, optionally below `train/`, `validation/` and `test/`."""

    source: Literal["imagefolder"]
    folder: str
    """Path of the folder, relative to the project or absolute."""
    splits: Literal["auto", "none"] = "auto"
    """`auto`: folders called like splits (train, val, Testing, ...) that contain folders are splits. `none`:
    the folders in `folder` are the classes, whatever they are called."""

    @property
    def origin(self) -> str | None:
        """The folder itself."""
        return self.folder


@dataclass(frozen=True, kw_only=True)
class Table(Source):
    """A CSV, TSV or Parquet file with a row per image: path, labels or mask, optionally split and group."""

    source: Literal["table"]
    file: str
    """Path of the table, relative to the project or absolute. Image paths in the table are relative to the
    table's folder."""
    path: str = "path"
    """Name of the column with the paths of the images."""
    labels: str | None = "labels"
    """Name of the column with the labels, or null if `one_hot`, `values`, `points` or `mask` is set."""
    joined_by: Annotated[str, Field(min_length=1)] | None = None
    """Text that joins several labels in a cell. null: `;`, or `|`, `,` or a blank if the labels show it. A
    text that does not occur keeps the cells whole."""
    one_hot: tuple[str, ...] = ()
    """Names of columns with 0 or 1, one per class, that take the place of `labels`."""
    separator: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """Character between the cells of a CSV file. null: a comma, or a semicolon, tab or `|` if only that gives
    all lines equally many cells."""
    values: tuple[str, ...] = ()
    """Names of the columns with numbers that shall be predicted (`problem.kind: regression`)."""
    points: dict[str, tuple[str, str]] = field(default_factory=dict)
    """Name of a point -> names of the columns with its places across and down, in pixels of the image
    (`problem.kind: keypoints`), e.g. `{nose: [nose_x, nose_y]}`. Empty cells mean that it is not known."""
    mask: str | None = None
    """Name of the column with the paths of the masks, or null."""
    split: str | None = None
    """Name of the column with the splits (train, validation, test), or null."""
    group: str | None = None
    """Name of the column with the groups, or null. All images of a group are in the same split."""

    @property
    def origin(self) -> str | None:
        """The folder of the table."""
        return str(PurePosixPath(self.file).parent)


@dataclass(frozen=True, kw_only=True)
class Toys(Source):
    """Generated images of simple shapes, for trying the pipeline without data."""

    source: Literal["toys"]
    truth: Literal["class", "labels", "mask", "value", "points", "boxes"] = "class"
    """Ground truth of each image: its only shape (`class`), all its shapes (`labels`), a mask of them
    (`mask`), the side of its only shape in px (`value`), two corners and the middle of the square round it
    (`points`), or a box round each of its shapes (`boxes`)."""
    count: Annotated[int, Field(ge=20)] = 300
    size_px: Annotated[int, Field(ge=12)] = 24
    channels: Literal[1, 3] = 3
    seed: int = 0


AnySource = Annotated[FashionMnist | Digits | ImageFolder | Table | Toys, Field(discriminator="source")]


@dataclass(frozen=True, kw_only=True)
class PrepareParams:
    """Settings for checking, resizing and splitting the images."""

    height_px: Annotated[int, Field(ge=8, le=4096)]
    width_px: Annotated[int, Field(ge=8, le=4096)]
    fit: Fit = "stretch"
    """How images of other proportions are brought to this size: by stretching, or by grey borders."""
    mode: Literal["auto", "grey", "colour"] = "auto"
    """Colour mode of the stored images. `auto` is grey if every image is grey, otherwise colour."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training examples that is used for validation, that is, for every choice between models,
    if the source fixes no validation split."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of all examples that is reserved for the final evaluation, if the source fixes no test split."""
    range: Literal["auto", "full", "per-image"] | tuple[float, float] = "auto"
    """Range of the levels that becomes 0..255, for images with more than 8 bits or with float pixels. `auto`
    looks at a sample of the images, and the report says the range; `full` is 0 to 65,535; `per-image` is the
    lowest and the highest level of each image; `[low, high]` is in the file's own units."""
    background: Literal["white", "black", "checker"] = "white"
    """What shows through transparent pixels; `checker` is squares of two greys, on which drawings in black
    and in white are visible. A deployed model reads images in the same way."""
    mask_values: dict[int, int] = field(default_factory=dict)
    """Number in the masks -> class number, for masks that number their classes otherwise, e.g. `{255: 1}`."""
    mask_orientation: Literal["auto", "upright", "stored"] = "auto"
    """How masks lie if EXIF turns their image and both have the same size: as the image is shown, or as its
    pixels are stored. A mask whose sides are swapped is turned in any case. `auto` is `upright`, and stops if
    the sides of other masks show that masks lie as pixels are stored. Points are counted in the same way."""
    mask_palettes: Literal["compare", "ignore"] = "compare"
    """`compare` stops if a colour has different numbers in the palettes of two masks, which then do not mean
    the same classes; `ignore` takes the numbers as they are."""
    near_duplicates: Literal["report", "group"] = "report"
    """What happens to nearly equal images (resized or re-encoded copies, frames of a film). `report` lists
    them. `group` keeps them in one split, and drops those whose counterpart is in the test or validation
    split already."""
    splits: str = "splits.parquet"
    """File with the splits of known images (columns `id`, `digest` and `split`), relative to the project.
    These images stay in their split. If the file does not exist, all images are split at random. A run
    writes it when new images arrive; delete it to split all images again."""
    max_bad_share: Share = 0.01
    """Largest allowed share of images that cannot be used. Above it, the pipeline stops."""
    max_pixels: Annotated[int, Field(ge=1)] = 50_000_000
    """Largest number of pixels of an image. Larger images are rejected without being decoded."""
    max_side_px: Annotated[int, Field(ge=1)] = 20_000
    """Largest width or height of an image. Larger images are rejected without being decoded."""
    keep: Literal["pixels", "encoded"] = "pixels"
    """How training images are stored: as `pixels` of one size in one array, or `encoded` (JPEG, PNG) in their
    own sizes and decoded during training."""
    shrink_px: Count = 0
    """With `keep: encoded`, images whose longer side exceeds this are shrunk to it, once. 0 keeps every
    size."""

    @property
    def levels(self) -> tuple[float, float] | Literal["full", "per-image"]:
        """The range of levels; `full` while `auto` was not decided by looking at images."""
        return "full" if self.range == "auto" else self.range

    def __post_init__(self) -> None:
        if not isinstance(self.range, str) and self.range[0] >= self.range[1]:
            raise ValueError(f"range = {list(self.range)}: the first level must be below the second")
        if self.shrink_px and self.keep == "pixels":
            raise ValueError(
                f"shrink_px = {self.shrink_px}, but prepare.keep = pixels brings every image to height_px x "
                "width_px anyway; set prepare.keep to encoded or shrink_px to 0"
            )


@dataclass(frozen=True, kw_only=True)
class BalanceParams:
    """Settings for balancing classes of different size."""

    method: Literal["none", "oversample", "undersample", "weights", "costs", "logit-adjustment"] = "none"
    strength: Share = 1.0
    """For `oversample` and `undersample`: 0 leaves the counts as they are, 1 makes them equal. For
    `logit-adjustment`: factor of the offsets."""
    beta: Annotated[float, Field(ge=0, lt=1)] = 0.999
    """For `weights`: beta in the effective number (1 - beta^n) / (1 - beta) of a class with n examples."""
    costs: dict[str, dict[str, float]] = field(default_factory=dict)
    """For `costs`: `{true class: {predicted class: cost}}`. Pairs that are not named cost 0."""


@dataclass(frozen=True, kw_only=True)
class AugmentParams:
    """Rebalancing of classes, and augmented images that are made before training starts."""

    balance: BalanceParams = field(default_factory=BalanceParams)
    copies: Count = 0
    """Number of augmented copies to make and store per training image."""
    policy: Annotated[Transforms, AfterValidator(_known_transforms("augment.policy"))] = ()
    """albumentations transforms in order, each `{name: ..., <argument>: ...}`."""
    workers: Count = 0
    """Number of worker processes; 0 means one per core. The images do not depend on it."""

    def __post_init__(self) -> None:
        if self.copies and not self.policy:
            raise ValueError(
                f"copies = {self.copies}, but the policy is empty, so the copies would not be augmented; "
                "name transforms in augment.policy or set augment.copies to 0"
            )


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
    policy: Annotated[Transforms, AfterValidator(_known_transforms("views.policy"))] = ()
    """albumentations transforms in order, as in `augment.policy`. Their random numbers are drawn again for
    every image in every epoch."""
    workers: Count = 0
    """Number of threads (processes if there is a policy) that decode images ahead of training; 0 means one
    per core. Batches do not depend on it."""

    def __post_init__(self) -> None:
        for name, pair in (("crop_scale", self.crop_scale), ("crop_ratio", self.crop_ratio)):
            if pair is not None and pair[0] > pair[1]:
                raise ValueError(f"{name} = {list(pair)}: write the smaller number first")

    @property
    def used(self) -> frozenset[View]:
        """The views that are on, besides those of the policy."""
        on: dict[View, object] = {
            "flip": self.flip,
            "shift": self.crop_px,
            "crop": self.crop_scale,
            "cutout": self.cutout_px,
            "mixup": self.mixup,
            "cutmix": self.cutmix,
        }
        return frozenset(name for name, value in on.items() if value)

    @property
    def per_image(self) -> bool:
        """Whether workers make some of the views image by image, instead of whole batches at once."""
        return self.crop_scale is not None or bool(self.policy)
