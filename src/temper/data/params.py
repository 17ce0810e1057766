"""Parameters of prepare: how examples are checked, brought to one size and split."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from temper.data.images.mask_values import MaskValues
from temper.fields import Fit

_LEAST_PX = 8
"""Smallest height and width of the images that a network sees."""
_FRAMES = 8
"""Number of frames of a clip if params.yaml names none."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0)]


@dataclass(frozen=True, kw_only=True)
class PrepareParams:
    """Settings for checking, resizing and splitting the images."""

    height_px: Annotated[int, Field(ge=0, le=4096)] = 0
    """Height of the unified images, or of the frames of clips, at least 8; left out if `problem.inputs` has
    neither."""
    width_px: Annotated[int, Field(ge=0, le=4096)] = 0
    """Width of the unified images, or of the frames of clips, at least 8; left out if `problem.inputs` has
    neither."""
    clip_frames: Annotated[int, Field(ge=2, le=512)] | None = None
    """Number of frames that are taken of each clip, evenly spread over all of its frames, which are counted,
    not timed. If a file has fewer, some repeat. null: 8; left out if `problem.inputs` has no clip."""
    text_bytes: Annotated[int, Field(ge=8, le=65536)] = 256
    """Number of bytes (UTF-8) that a network sees of a text; longer ones are cut."""
    fit: Fit = "stretch"
    """How images of other proportions are brought to this size. `stretch` changes the proportions.
    `letterbox` keeps them, between grey borders. `keep-height`, for lines of text, gives each image the full
    height at the left and grey beside it, and squeezes across only what is then wider than width_px."""
    mode: Literal["auto", "grey", "colour"] = "auto"
    """Colour mode of the stored images or clips. `auto` is grey if all of them are grey, otherwise colour."""
    validation_share: Annotated[float, Field(gt=0, lt=1)] = 0.1
    """Share of the training examples that is used for validation, that is, for every choice between models,
    if the source fixes no validation split."""
    test_share: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Share of all examples that is reserved for the final evaluation, if the source fixes no test split."""
    range: Literal["auto", "full", "per-image"] | tuple[float, float] = "auto"
    """Range of the levels that becomes 0..255, for images with more than 8 bits or with float pixels. `auto`
    looks at a sample of the images, and the report says the range; `full` is 0 to 65,535; `per-image` is the
    lowest and the highest level of each image, or frame of a clip; `[low, high]` is in the file's own
    units."""
    background: Literal["white", "black", "checker"] = "white"
    """What shows through transparent pixels; `checker` is squares of two greys, on which drawings in black
    and in white are visible. A deployed model reads images in the same way."""
    mask_values: MaskValues = field(default_factory=dict)
    """Number or colour in the masks -> name of its class, e.g. `{0: background, 255: cell}` or `{"#000000":
    background, "#ff0000": road}`; 255 in place of a name means that such pixels do not count. What is not
    named makes an image unusable. Names become `problem.classes` if that has none. With class numbers only,
    as in `{255: 1}`, all other numbers stay as they are."""
    mask_orientation: Literal["auto", "upright", "stored"] = "auto"
    """How masks lie if EXIF turns their image and both have the same size: as the image is shown, or as its
    pixels are stored. A mask whose sides are swapped is turned in any case. `auto` is `upright`, and stops if
    the sides of other masks show that masks lie as pixels are stored."""
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
    """Largest number of pixels of an image, or of all frames of a clip together. Larger ones are rejected
    without being decoded."""
    max_side_px: Annotated[int, Field(ge=1)] = 20_000
    """Largest width or height of an image. Larger images are rejected without being decoded."""
    keep: Literal["pixels", "encoded"] = "pixels"
    """How training images are stored: as `pixels` of one size in one array, or `encoded` (JPEG, PNG) in their
    own sizes and decoded during training."""
    shrink_px: Count = 0
    """With `keep: encoded`, images whose longer side exceeds this are shrunk to it, once. 0 keeps every
    size."""

    def check_size(self, *, has_pixels: bool, has_frames: bool) -> None:
        """Check number and size of frames against what a problem sees.

        Args:
            has_pixels: Whether it sees images or clips.
            has_frames: Whether it sees clips.

        Raises:
            ValueError: If images would be too small, or if there are no clips, but a number of frames.
        """
        if has_pixels and min(self.height_px, self.width_px) < _LEAST_PX:
            raise ValueError(
                f"prepare.height_px = {self.height_px}, prepare.width_px = {self.width_px}: both must be at "
                f"least {_LEAST_PX}"
            )
        if self.clip_frames is not None and not has_frames:
            raise ValueError(
                f"prepare.clip_frames = {self.clip_frames} concerns clips, and problem.inputs has none; "
                "leave it out"
            )

    @property
    def frames(self) -> int:
        """Number of frames of a clip, if there are clips."""
        return self.clip_frames or _FRAMES

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
