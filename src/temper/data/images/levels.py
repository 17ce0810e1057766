"""Images with more than 8 bits, or with float pixels: which range of their levels becomes 0..255.

Cameras, microscopes and thermal sensors write 10, 12 or 14 bits, or a narrow band of temperatures, into 16
bits. If the whole range of 16 bits became 0..255, such images would be black or flat.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from jaxtyping import UInt8

from temper.data.remark import Note

Levels = tuple[float, float] | Literal["full", "per-image"]
"""Lowest and highest level, in the file's own units; `full` is 0 to 65,535, and `per-image` the lowest and
highest level of each image."""
_BITS = (8, 10, 12, 14, 16)
_USED = 0.25
"""Share of the range of so many bits that must be used. If less is, the levels are a band within it."""
_TAIL = 0.1
"""Percentage of the levels below and above a band."""
_OUTLIERS, _FAR = 1.0, 8
"""Percentage of the levels at each end that may be outliers, and how many times wider they make a range."""
_MISSING = np.array([-9999.0, -32768.0, np.finfo(np.float32).min], np.float32)
"""What programs for maps and thermal cameras write into float images where nothing was measured."""
_MOST = 65_535
CLIPPED = Note(
    "noticed",
    "images have a tenth of their levels or more outside the range that becomes 0 to 255, which turn black "
    "or white; prepare.range decides otherwise",
)
_FREQUENT, _FEWEST_LEVELS = 0.02, 4
"""Share of the levels that a mark of missing data has, at least, and number of levels that there must be."""
_CLIPPED = 0.1
"""Share of an image's levels outside the range from which on that is said."""
_SAMPLED = 1 << 14
"""About the number of levels that are taken from an image."""


def is_wide(mode: str) -> bool:
    """Return whether a mode of Pillow has more than 8 bits per channel."""
    return mode == "F" or mode.startswith("I")


def sample_levels(image: np.ndarray) -> np.ndarray:
    """Return some levels of an image, evenly spread, with the lowest and the highest."""
    levels = image.ravel()
    finite = levels[is_measured(levels)]
    if not finite.size:
        return finite
    some = finite[:: max(1, finite.size // _SAMPLED)]
    return np.concatenate([some, np.array([finite.min(), finite.max()], finite.dtype)])


def is_measured(levels: np.ndarray) -> np.ndarray:
    """Return which levels are measurements: not NaN, not infinite, and in floats no mark of missing data."""
    if levels.dtype.kind != "f":
        return np.ones(levels.shape, bool)
    return np.isfinite(levels) & ~np.isin(levels, _MISSING)


def find_levels(images: Sequence[np.ndarray]) -> tuple[float, float]:
    """Return the range that suits some images with many levels.

    Example:
        >>> find_levels([np.array([0, 900, 4000])]), find_levels([np.array([0, 65000])])
        ((0.0, 4095.0), (0.0, 65535.0))
        >>> find_levels([np.linspace(29000, 31000, 2001)])
        (29002.0, 30998.0)
    """
    levels = np.concatenate([image.ravel() for image in images]).astype(np.float64)
    levels = levels[np.isfinite(levels)]
    if not levels.size:
        return 0.0, float(_MOST)
    low, high = float(levels.min()), float(levels.max())
    whole = all(image.dtype.kind in "ui" for image in images) and low >= 0
    top = next((2**bits - 1 for bits in _BITS if high < 2**bits), None) if whole else None
    if top is not None and high - low >= _USED * top:
        return 0.0, float(top)
    low, high = (round(float(value), 6) for value in np.percentile(levels, [_TAIL, 100 - _TAIL]))
    return (low, high) if high > low else (low, low + 1.0)


def find_outliers(images: Sequence[np.ndarray], span: tuple[float, float]) -> tuple[float, float] | None:
    """Return the band of nearly all levels of some images if it is a small part of a range; None if not.

    The rest may be hot pixels, or it may be what the images are about: stars, stained cells.

    Example:
        >>> find_outliers([np.append(np.arange(1000), 65000)], (0.0, 65535.0))
        (10.0, 990.0)
    """
    levels = np.concatenate([image.ravel() for image in images]).astype(np.float64)
    least, most = (round(float(value), 6) for value in np.percentile(levels, [_OUTLIERS, 100 - _OUTLIERS]))
    return (least, most) if span[1] - span[0] > _FAR * (most - least) > 0 else None


def find_mark(images: Sequence[np.ndarray]) -> float | None:
    """Return the lowest or highest level of some images if it is frequent and far from all others.

    It may stand for pixels without a measurement.

    Example:
        >>> find_mark([np.array([-32768, -32768, 200, 300, 900])]), find_mark([np.array([0, 0, 100, 200])])
        (-32768.0, None)
    """
    levels, counts = np.unique(np.concatenate([image.ravel() for image in images]), return_counts=True)
    levels = levels.astype(np.float64)
    if len(levels) < _FEWEST_LEVELS:
        return None
    for place, rest in ((0, levels[1:]), (-1, levels[:-1])):
        apart = np.abs(rest - levels[place]).min()
        if counts[place] >= _FREQUENT * counts.sum() and apart > np.ptp(rest):
            return float(levels[place])
    return None


def is_clipped(levels: np.ndarray, span: Levels) -> bool:
    """Return whether many levels of an image lie outside a range.

    Example:
        >>> is_clipped(np.arange(100), (0, 95)), is_clipped(np.arange(100), (0, 50))
        (False, True)
    """
    if isinstance(span, str):
        return False
    outside = ((levels < span[0]) | (levels > span[1])) & is_measured(levels)
    return bool(outside.mean() >= _CLIPPED)


def as_eight_bits(levels: np.ndarray, span: Levels) -> UInt8[np.ndarray, "height width *channels"]:
    """Return levels as 0..255, clipped to a range. Values that are no numbers become 0."""
    if span == "full":
        span = (0.0, float(_MOST))
    measured = is_measured(levels)
    if span == "per-image":
        finite = levels[measured]
        span = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 1.0)
    assert not isinstance(span, str)
    low, high = span
    found = (np.where(measured, levels, np.nan).astype(np.float64) - low) * (255.0 / max(high - low, 1e-12))
    return np.rint(np.clip(np.nan_to_num(found, nan=0.0, posinf=255.0, neginf=0.0), 0, 255)).astype(np.uint8)
