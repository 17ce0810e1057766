"""Colour images, and grey ones with transparency, of more than 8 bits: Pillow keeps their upper 8 bits only.

Most cameras and microscopes use 10 to 14 of 16 bits, so these images would be black.
"""

import io

import cv2
import numpy as np
from jaxtyping import UInt16
from PIL import Image

from temper.data.images.levels import Levels, as_eight_bits
from temper.data.images.png_texts import SIGNATURE

_PNG_GREY = 0
_BITS, _KIND, _RGB = 258, 262, 2
"""TIFF's tags with the bits of each channel and the kind of colours, and its value for RGB."""


def read_wide_colour(raw: bytes) -> UInt16[np.ndarray, "height width channels"] | None:
    """Return the levels of a PNG or TIFF with several channels of 16 bits; None for any other file.

    The channels are grey and alpha, RGB, or RGB and alpha.

    Raises:
        ValueError: If it is such a file and cannot be decoded.
    """
    if not _is_wide(raw):
        return None
    levels = cv2.imdecode(np.frombuffer(raw, np.uint8), cv2.IMREAD_UNCHANGED)
    if levels is None or levels.dtype != np.uint16 or levels.ndim != 3:
        raise ValueError("its channels of 16 bits cannot be decoded; store it as PNG of 8 or 16 bits")
    grey = raw[25] == _PNG_GREY + 4 if raw.startswith(SIGNATURE) else False
    rgb = levels[..., [2, 1, 0, *range(3, levels.shape[2])]]
    return rgb[..., [0, 3]] if grey and rgb.shape[2] == 4 else rgb


def as_colours(levels: np.ndarray, span: Levels) -> Image.Image:
    """Return levels of several channels as 8 bits; a last channel of alpha keeps its whole range."""
    alpha = levels.shape[2] in (2, 4)
    colours = as_eight_bits(levels[..., :-1] if alpha else levels, span)
    if alpha:
        colours = np.concatenate([colours, as_eight_bits(levels[..., -1:], "full")], axis=-1)
    return Image.fromarray(colours, {2: "LA", 3: "RGB", 4: "RGBA"}[levels.shape[2]])


def _is_wide(raw: bytes) -> bool:
    if raw.startswith(SIGNATURE):
        return len(raw) > 25 and raw[24] == 16 and raw[25] != _PNG_GREY
    if not raw.startswith((b"II*\x00", b"MM\x00*")):
        return False
    try:
        tags = Image.open(io.BytesIO(raw)).tag_v2  # type: ignore[attr-defined]
    except (OSError, ValueError, SyntaxError):
        return False
    return tags.get(_KIND) == _RGB and 16 in tags.get(_BITS, ())
