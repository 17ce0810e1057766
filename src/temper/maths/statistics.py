"""Uncertainty of a score: the bootstrap over source images.

The bootstrap draws images, never single copies of an image under stress. Copies of an image fail together, so
treating them as independent would make every interval too narrow. A score is a function of summed tallies.
One draw of images is therefore one row of weights, and all scores under all draws are one matrix product. All
candidates and conditions use the same draws (paired), so the draws are made once and stored, one byte per
image and draw.

Source:
    Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13 (percentile intervals).
"""

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from temper.maths.random import hashes

_PART = 1 << 21
"""Number of weights that are made or used at once: 16 MiB of float64."""


def draw(images: int, *, resamples: int, seed: int) -> UInt8[Tensor, "resamples images"]:
    """Draw `images` images with replacement, repeatedly, and count how often each image occurs in each draw.

    Args:
        images: Number of images, at least 1.
        resamples: Number of draws; it does not change the first draws.
        seed: The main seed.

    Returns:
        Counts; each row sums to `images`. (The odds of more than 255 of one image are 1 in 10**500.)
    """
    weights = torch.zeros(resamples, images, dtype=torch.uint8)
    one = torch.ones((), dtype=torch.uint8)
    rows = max(1, _PART // images)
    for first in range(0, resamples, rows):
        part = weights[first : first + rows]
        numbers = torch.arange(first, first + len(part), dtype=torch.int64)
        bits = hashes(numbers, images, seed=seed, stream="bootstrap")
        # The upper bits of (31 random bits times `images`) are a number below `images`, without a division.
        chosen = ((bits & 0x7FFFFFFF) * images) >> 31
        part.scatter_add_(1, chosen, one.expand_as(chosen))
    return weights


def resample(
    draws: UInt8[Tensor, "resamples images"], tallies: Float64[Tensor, "images counts"]
) -> Float64[Tensor, "resamples counts"]:
    """Sum the tallies of the images of each draw."""
    rows = max(1, _PART // draws.shape[1])
    return torch.cat([part.double() @ tallies for part in draws.split(rows)])


def interval(
    scores: Float[Tensor, "resamples *shape"], *, confidence: float
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """Return the percentile interval of resampled scores: the ends of their middle `confidence` share.

    Draws without a score (NaN) are left out.

    Raises:
        ValueError: If the confidence is not between 0 and 1.

    Example:
        >>> low, high = interval(torch.arange(101.0), confidence=0.9)
        >>> float(low), float(high)
        (5.0, 95.0)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence = {confidence}: it must lie between 0 and 1, e.g. 0.95")
    tail = (1 - confidence) / 2
    low, high = torch.nanquantile(scores, torch.tensor([tail, 1 - tail], dtype=scores.dtype), dim=0)
    return low, high
