"""Encoded images as pixels of one size: decoding for training, where every microsecond counts.

OpenCV reads JPEG and PNG without Python's lock, so threads decode side by side, and lets libjpeg halve, quarter or eighth a
image while it decodes. prepare keeps only bytes that OpenCV reads exactly as Pillow does (`data/encoded.py`).

A part of an image is a box: top, left, height, width, whole pixels of the full-size image.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

cv2.setNumThreads(1)  # images are decoded side by side already
Box = tuple[int, int, int, int]
_COLOUR = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Read in colour at 1/factor of the size."""
_AS_IT_IS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION


class Undecodable(Exception):
    """Bytes that are no image (any more)."""


def decode(raw: bytes, channels: int, factor: int = 1) -> UInt8[np.ndarray, "height width channels"]:
    """Pixels of a JPEG or PNG as it lies in the file, grey or RGB.

    Args:
        raw: The file's bytes.
        channels: 1 for grey, 3 for RGB.
        factor: 1, 2, 4 or 8: divides height and width, rounded up; cheap for JPEG.

    Raises:
        Undecodable: If they cannot be decoded.
    """
    content = np.frombuffer(raw, np.uint8)
    try:
        if channels == 3:
            pixels = cv2.imdecode(content, _COLOUR[factor] | cv2.IMREAD_IGNORE_ORIENTATION)
            if pixels is not None and factor > 1:
                pixels = cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
        else:
            pixels = cv2.imdecode(content, _AS_IT_IS)
    except cv2.error as error:
        raise Undecodable(" ".join(str(error).split())) from error
    if pixels is None:
        raise Undecodable("neither JPEG nor PNG, or damaged")
    if channels == 3:
        return pixels
    return pixels[..., None] if pixels.ndim == 2 else to_grey(pixels[..., ::-1])


def decode_part(
    raw: bytes,
    size: tuple[int, int],
    box: Box,
    *,
    height_px: int,
    width_px: int,
    channels: int,
    out: UInt8[np.ndarray, "height width channels"] | None = None,
) -> UInt8[np.ndarray, "height width channels"]:
    """A part of an image, stretched to `height_px` by `width_px`.

    JPEGs are decoded at the smallest scale that still has a pixel for each wanted one.

    Args:
        raw: The file's bytes.
        size: Height and width of the whole image.
        box: The part.
        height_px: Wanted height.
        width_px: Wanted width.
        channels: 1 for grey, 3 for RGB.
        out: Where it goes, of that size; None makes a place.

    Raises:
        Undecodable: If it cannot be decoded, or is of another size than it should be.
    """
    factor = 1
    if channels == 3 and raw[:2] == b"\xff\xd8":
        factor = next((f for f in (8, 4, 2) if box[2] >= f * height_px and box[3] >= f * width_px), 1)
    pixels = decode(raw, channels, factor)
    if pixels.shape[:2] != tuple(-(-side // factor) for side in size):
        raise Undecodable(
            f"it is {pixels.shape[1]}x{pixels.shape[0]} px at 1/{factor}, not of {size[1]}x{size[0]} px"
        )
    top, left, height, width = (side // factor for side in box)
    return stretch(pixels[top : top + height, left : left + width], height_px, width_px, out)


def stretch(
    pixels: UInt8[np.ndarray, "height width channels"],
    height_px: int,
    width_px: int,
    out: UInt8[np.ndarray, "tall wide channels"] | None = None,
) -> UInt8[np.ndarray, "tall wide channels"]:
    """Bring to a size: by the mean over areas where a side shrinks, else bilinear; into `out`, if there is one."""
    height, width = pixels.shape[:2]
    if (height, width) == (height_px, width_px):
        made = pixels
    else:
        way = cv2.INTER_AREA if height > height_px or width > width_px else cv2.INTER_LINEAR
        made = cv2.resize(pixels, (width_px, height_px), dst=out, interpolation=way).reshape(
            height_px, width_px, -1
        )
    if out is None:
        return made
    if not np.may_share_memory(made, out):
        out[...] = made
    return out


def mirror(images: Shaped[np.ndarray, "batch height width *channels"], numbers: Sequence[int]) -> None:
    """Mirror some images, or masks, left to right where they lie."""
    quick = images.dtype == np.uint8  # OpenCV's, a tenth of numpy's time
    for number in numbers:
        one = images[number]
        images[number] = cv2.flip(one, 1).reshape(one.shape) if quick else one[:, ::-1].copy()


def to_grey(pixels: UInt8[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape 1"]:
    """Pillow's weights of red, green and blue (ITU-R 601-2), in its integer arithmetic; equal channels stay as they are."""
    red, green, blue = (pixels[..., i].astype(np.uint32) for i in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]
