"""Levels of single examples with more than 8 bits, from which the range of all is chosen."""

import numpy as np

from temper.data.images.clip_reading import take_frames
from temper.data.images.levels import is_wide
from temper.data.images.reading import Raw, identify
from temper.data.images.wide_colour import read_wide_colour
from temper.inputs.clip_input import ClipInput
from temper.inputs.image_input import Pixels


def read_wide(raw: Raw, given: Pixels, *, max_pixels: int) -> np.ndarray | None:
    """Return the levels of an example with more than 8 bits; None for others and for unusable ones.

    Args:
        raw: Content of the file.
        given: How examples are read: as images, or as clips, whose frames that are taken are looked at.
        max_pixels: Largest number of pixels.
    """
    if isinstance(raw, np.ndarray):
        return None
    try:
        image = identify(raw)  # only its beginning is read
        if image.width * image.height > max_pixels:
            return None
        if is_wide(image.mode) and isinstance(given, ClipInput):
            frames = take_frames(raw, given.frames, max_pixels=max_pixels, max_side_px=max_pixels)
            return np.concatenate([np.asarray(frame).ravel() for _, _, frame in frames])
        if is_wide(image.mode):
            return np.asarray(image)
        wide = read_wide_colour(raw)
        return None if wide is None else wide[..., :-1] if wide.shape[2] in (2, 4) else wide
    except Exception:  # the pass over all examples says what is wrong
        return None
