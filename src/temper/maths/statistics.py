"""How sure a score is: the bootstrap over source images.

The unit that is drawn again is the image, never one of its copies under stress: copies of an image fail together, and
counting them as independent would make every interval too narrow. A score is a function of summed tallies, so one draw of
images is one row of weights, and all scores under all draws are one matrix product. Every candidate and every condition
meets the same draws (paired), so they are drawn once and kept, a byte for each image and draw.

Source:
    Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13 (percentile intervals).
"""

import torch
from jaxtyping import Float, Float64, UInt8
from torch import Tensor

from temper.maths.random import hashes

_PART = 1 << 21
"""Weights made or used at once: 16 MiB of float64."""


def draw(images: int, *, resamples: int, seed: int) -> UInt8[Tensor, "resamples images"]:
    """How often each image occurs in draws with replacement of as many as there are.

    Args:
        images: How many there are, at least 1.
        resamples: How many draws; the first ones do not depend on it.
        seed: The seed of the whole.

    Returns:
        Each row sums to `images`. (More than 255 of one image would need odds of 1 in 10**500.)
    """
    weights = torch.zeros(resamples, images, dtype=torch.uint8)
    one = torch.ones((), dtype=torch.uint8)
    rows = max(1, _PART // images)
    for first in range(0, resamples, rows):
        part = weights[first : first + rows]
        numbers = torch.arange(first, first + len(part), dtype=torch.int64)
        bits = hashes(numbers, images, seed=seed, stream="bootstrap")
        # The upper part of a product with 31 random bits: a number below `images` without a division.
        chosen = ((bits & 0x7FFFFFFF) * images) >> 31
        part.scatter_add_(1, chosen, one.expand_as(chosen))
    return weights


def resample(
    draws: UInt8[Tensor, "resamples images"], tallies: Float64[Tensor, "images counts"]
) -> Float64[Tensor, "resamples counts"]:
    """Summed tallies of the images of each draw."""
    rows = max(1, _PART // draws.shape[1])
    return torch.cat([part.double() @ tallies for part in draws.split(rows)])


def interval(
    scores: Float[Tensor, "resamples *shape"], *, confidence: float
) -> tuple[Float[Tensor, "*shape"], Float[Tensor, "*shape"]]:
    """The middle `confidence` of resampled scores: their percentile interval.

    Draws without a score (NaN) are left out.

    Raises:
        ValueError: If the confidence is not between 0 and 1.

    Example:
        >>> low, high = interval(torch.arange(101.0), confidence=0.9)
        >>> float(low), float(high)
        (5.0, 95.0)
    """
    if not 0 < confidence < 1:
        raise ValueError(f"confidence {confidence} must lie between 0 and 1, e.g. 0.95")
    tail = (1 - confidence) / 2
    low, high = torch.nanquantile(scores, torch.tensor([tail, 1 - tail], dtype=scores.dtype), dim=0)
    return low, high
