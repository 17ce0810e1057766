"""Images with transparent pixels, palettes and other modes of 8 bits: what becomes visible of them."""

from typing import Literal

import numpy as np
from PIL import Image

Background = Literal["white", "black", "checker"]
"""What shows through transparent pixels."""
_ALPHA = ("LA", "La", "PA", "RGBA", "RGBa")
_SQUARE_PX = 8
_TONES = (64, 192)
"""Grey values of the checkerboard's squares: drawings in black and in white are visible on both."""


def is_transparent(image: Image.Image) -> bool:
    """Return whether pixels of an image may be transparent."""
    return image.mode in _ALPHA or "transparency" in image.info


def shows_background(image: Image.Image) -> bool:
    """Return whether any pixel of an image is transparent, at least partly."""
    if not is_transparent(image):
        return False
    low, _ = image.convert("RGBA").getchannel("A").getextrema()
    return bool(low < 255)  # type: ignore[operator]


def flatten(image: Image.Image, background: Background = "white") -> Image.Image:
    """Convert any mode of 8 bits to L or RGB, over the background where the image is transparent."""
    if image.mode == "1":
        return image.convert("L")
    if not is_transparent(image):
        return image.convert("RGB")
    solid = image.convert("RGBA")
    return Image.alpha_composite(_draw(background, solid.size), solid).convert("RGB")


def _draw(background: Background, size: tuple[int, int]) -> Image.Image:
    if background != "checker":
        return Image.new("RGBA", size, background)
    odd = np.add.outer(np.arange(size[1]) // _SQUARE_PX, np.arange(size[0]) // _SQUARE_PX) % 2
    return Image.fromarray(np.array(_TONES, np.uint8)[odd]).convert("RGBA")
