"""Decoding of encoded images to pixels of one size during training, where every microsecond counts.

OpenCV reads JPEG and PNG without Python's lock, so threads decode in parallel. It also lets libjpeg reduce an
image to 1/2, 1/4 or 1/8 of its size during decoding. prepare stores only bytes that OpenCV decodes exactly as
Pillow does (`data/images/encoded.py`).

A part of an image is a box: top, left, height and width, in whole pixels of the full-size image.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from jaxtyping import Shaped, UInt8

from temper.maths.geometry import BORDER

cv2.setNumThreads(1)  # images are already decoded in parallel
Box = tuple[int, int, int, int]
_COLOUR = {
    1: cv2.IMREAD_COLOR_RGB,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
"""Factor -> OpenCV's flag to read an image in colour at 1/factor of its size."""
_AS_IT_IS = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_IGNORE_ORIENTATION


class Undecodable(Exception):
    """Raised for bytes that are not an image, or a damaged one."""


def decode(raw: bytes, channels: int, factor: int = 1) -> UInt8[np.ndarray, "height width channels"]:
    """Return the pixels of a JPEG or PNG as stored (no EXIF rotation), grey or RGB.

    Args:
        raw: Bytes of the file.
        channels: 1 for grey, 3 for RGB.
        factor: 1, 2, 4 or 8. Height and width are divided by it and rounded up, which is cheap for JPEG.

    Raises:
        Undecodable: If the bytes cannot be decoded.
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
    """Return a part of an image, resized to `height_px` by `width_px`.

    JPEGs are decoded at the smallest scale that still has one pixel for each wanted pixel.

    Args:
        raw: Bytes of the file.
        size: Height and width of the whole image.
        box: Part of the image; what it covers beside the image becomes a grey border.
        height_px: Wanted height.
        width_px: Wanted width.
        channels: 1 for grey, 3 for RGB.
        out: Array of the wanted size for the result; None creates one.

    Raises:
        Undecodable: If the image cannot be decoded, or does not have the given size.
    """
    factor = 1
    if channels == 3 and raw[:2] == b"\xff\xd8":
        factor = next((f for f in (8, 4, 2) if box[2] >= f * height_px and box[3] >= f * width_px), 1)
    pixels = decode(raw, channels, factor)
    if pixels.shape[:2] != tuple(-(-side // factor) for side in size):
        raise Undecodable(
            f"it has {pixels.shape[1]}x{pixels.shape[0]} px at scale 1/{factor}, "
            f"but {size[1]}x{size[0]} px are expected at full size"
        )
    return stretch(cut_out(pixels, [side // factor for side in box]), height_px, width_px, out)


def cut_out(
    pixels: UInt8[np.ndarray, "height width channels"], box: Sequence[int]
) -> UInt8[np.ndarray, "tall wide channels"]:
    """Return a part of an image; what it covers beside the image becomes a grey border."""
    top, left, height, width = box
    part = pixels[max(top, 0) : max(top + height, 0), max(left, 0) : max(left + width, 0)]
    if part.shape[:2] == (height, width):
        return part
    whole = np.full((height, width, pixels.shape[2]), BORDER, np.uint8)
    down, right = max(-top, 0), max(-left, 0)
    whole[down : down + part.shape[0], right : right + part.shape[1]] = part
    return whole


def stretch(
    pixels: UInt8[np.ndarray, "height width channels"],
    height_px: int,
    width_px: int,
    out: UInt8[np.ndarray, "tall wide channels"] | None = None,
) -> UInt8[np.ndarray, "tall wide channels"]:
    """Resize pixels, into `out` if it is given: area average if a side shrinks, otherwise bilinear."""
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
    """Mirror some images or masks left to right, in place."""
    quick = images.dtype == np.uint8  # OpenCV takes a tenth of numpy's time
    for number in numbers:
        one = images[number]
        images[number] = cv2.flip(one, 1).reshape(one.shape) if quick else one[:, ::-1].copy()


def to_grey(pixels: UInt8[np.ndarray, "*shape 3"]) -> UInt8[np.ndarray, "*shape 1"]:
    """Return grey pixels, with Pillow's weights of red, green and blue (ITU-R 601-2) and integer arithmetic.

    If the three channels are equal, the grey value is equal to them.
    """
    red, green, blue = (pixels[..., i].astype(np.uint32) for i in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]
