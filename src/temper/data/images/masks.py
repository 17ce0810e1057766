"""Masks: one class number per pixel, brought to the size and orientation of their image."""

import io
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from temper.data.images.mask_levels import (
    count,
    explain_unnamed,
    read_colours,
    read_numbers,
    refuse_colours,
)
from temper.data.images.mask_values import AS_WRITTEN, IGNORED, Meaning
from temper.data.images.orientation import turn, turned
from temper.data.images.reading import Raw, Unreadable, open_upright
from temper.fields import QUARTER_TURN, Fit
from temper.maths.geometry import place_on_canvas


@dataclass(frozen=True)
class MaskRules:
    """How masks are read."""

    meaning: Meaning = AS_WRITTEN
    """Class numbers of what is in the files, if they are written otherwise."""
    seen: set[int] = field(default_factory=set)
    """Numbers or colours of `meaning` that were found in a mask."""
    stored: bool = False
    """Whether a mask of an image that is turned by EXIF lies as the image is stored, not as it is shown."""


def is_swapped(raw: Raw, size: tuple[int, int]) -> bool:
    """Return whether a mask has the sides of its image, swapped: it lies as the pixels are stored."""
    if isinstance(raw, np.ndarray):
        return False
    try:
        sides = Image.open(io.BytesIO(raw)).size
    except (OSError, ValueError):
        return False  # reading the mask says what is wrong
    return sides == size[::-1] != size


def read_mask(
    raw: Raw,
    size: tuple[int, int],
    *,
    max_pixels: int,
    max_side_px: int,
    orientation: int = 1,
    rules: MaskRules = MaskRules(),
) -> UInt8[np.ndarray, "tall wide"]:
    """Return a mask as class numbers, in the size of its image.

    The numbers of a palette mask are its indices, whatever their colours, unless `rules` name colours.

    Args:
        raw: Mask.
        size: Original width and height of the image, upright; the mask must have the same size. If the image
            was turned by a quarter, a mask with swapped sides is turned with it.
        max_pixels: Largest number of pixels.
        max_side_px: Largest side.
        orientation: EXIF orientation of the image as it is stored.
        rules: Class numbers and orientation of masks.

    Raises:
        Unreadable: If it is not a mask, or does not have the size of its image.
    """
    try:
        mask = open_upright(raw, max_pixels=max_pixels, max_side_px=max_side_px)
    except Unreadable as error:
        raise Unreadable(f"its mask is unusable: {error}") from error
    swapped = mask.size == size[::-1] != size and orientation >= QUARTER_TURN
    alike = mask.size == size and (orientation < QUARTER_TURN or size[0] == size[1])
    if (swapped or (rules.stored and alike)) and turned(mask) == 1:
        mask = turn(mask, orientation)
    if mask.size != size:
        raise Unreadable(f"its mask has {mask.width}x{mask.height} px, the image {size[0]}x{size[1]} px")
    numbers = _as_classes(mask, rules)
    if numbers.size and (int(numbers.max()) > 255 or int(numbers.min()) < 0):
        raise Unreadable(
            f"its mask contains class number {int(numbers.max())}; 0..254 are possible, 255 is ignored; "
            f"prepare.mask_values: {{{int(numbers.max())}: 1}} makes it class 1"
        )
    return numbers.astype(np.uint8)


def _as_classes(mask: Image.Image, rules: MaskRules) -> Integer[np.ndarray, "tall wide"]:
    """Return the class number of each pixel.

    Raises:
        Unreadable: If the mask holds colours where numbers are expected, or something that is not named.
    """
    meaning = rules.meaning
    plain = read_colours(mask) if meaning.colours else read_numbers(mask)
    if plain is None:
        raise refuse_colours(mask, meaning)
    if not meaning.numbers:
        return plain
    plain = plain.astype(np.int64)
    numbers, named = plain.copy(), np.zeros(plain.shape, bool)
    for value, number in meaning.numbers.items():
        there = plain == value
        if there.any():
            rules.seen.add(value)
            numbers[there] = number
            named |= there
    if meaning.whole and not named.all():
        raise Unreadable(explain_unnamed(count(plain[~named]), meaning))
    return numbers


def resize_mask(
    numbers: UInt8[np.ndarray, "tall wide"], height_px: int, width_px: int, fit: Fit
) -> UInt8[np.ndarray, "height width"]:
    """Return a mask in another size; every pixel has the number of the nearest one. Borders do not count."""
    height, width = numbers.shape
    (tall, wide), (top, left) = place_on_canvas(height, width, (height_px, width_px), fit)
    if (tall, wide) != numbers.shape:
        around = (top, tall - height - top), (left, wide - width - left)
        numbers = np.pad(numbers, around, constant_values=IGNORED)
    if numbers.shape == (height_px, width_px):
        return numbers
    return np.asarray(Image.fromarray(numbers).resize((width_px, height_px), Image.Resampling.NEAREST))
