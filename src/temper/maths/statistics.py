"""Uncertainty of a score: the bootstrap over source images.

The bootstrap draws images, never single copies of an image under stress. Copies of an image fail together, so
treating them as independent would make every interval too narrow. The same holds for the images of a group
(a patient, a sequence), so where the data have groups, groups are drawn: a *unit* is a group, or an image
that is in none. A score is a function of summed tallies. One draw is therefore one row of weights, and all
scores under all draws are one matrix product. All candidates and conditions use the same draws (paired), so
the draws are made once and stored, one byte per unit and draw.

Source:
    Efron and Tibshirani 1993, "An introduction to the bootstrap", chapter 13 (percentile intervals).
    Davison and Hinkley 1997, "Bootstrap methods and their application", section 3.8 (draws of whole groups).
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Float64, Int64, UInt8
from torch import Tensor

from temper.maths.random import hashes

_PART = 1 << 21
"""Number of weights that are made or used at once: 16 MiB of float64."""


def draw(units: int, *, resamples: int, seed: int) -> UInt8[Tensor, "resamples units"]:
    """Draw `units` units with replacement, repeatedly, and count how often each one occurs in each draw.

    Args:
        units: Number of images, or of groups of images, at least 1.
        resamples: Number of draws; it does not change the first draws.
        seed: The main seed.

    Returns:
        Counts; each row sums to `units`. (The odds of more than 255 of one unit are 1 in 10**500.)
    """
    weights = torch.zeros(resamples, units, dtype=torch.uint8)
    one = torch.ones((), dtype=torch.uint8)
    rows = max(1, _PART // units)
    for first in range(0, resamples, rows):
        part = weights[first : first + rows]
        numbers = torch.arange(first, first + len(part), dtype=torch.int64)
        bits = hashes(numbers, units, seed=seed, stream="bootstrap")
        # The upper bits of (31 random bits times `units`) are a number below `units`, without a division.
        chosen = ((bits & 0x7FFFFFFF) * units) >> 31
        part.scatter_add_(1, chosen, one.expand_as(chosen))
    return weights


def number_units(groups: Sequence[str | None]) -> Int64[Tensor, "images"]:
    """Return the number of each image's unit, counted in the order in which units first occur.

    Example:
        >>> number_units(["anna", None, "ben", "anna", None])
        tensor([0, 1, 2, 0, 3])
    """
    known: dict[object, int] = {}
    names = (number if name is None else name for number, name in enumerate(groups))
    return torch.tensor([known.setdefault(name, len(known)) for name in names], dtype=torch.int64)


def sum_units(
    tallies: Float64[Tensor, "images counts"], units: Int64[Tensor, "images"]
) -> Float64[Tensor, "units counts"]:
    """Sum the tallies of the images of each unit, in the order of the units' numbers.

    Args:
        tallies: Counts that each image adds.
        units: Number of each image's unit; numbers may be missing, as in a subset of the images.
    """
    found, places = units.unique(return_inverse=True)
    if len(found) == len(units):
        return tallies[units.argsort()] if (units.diff() < 0).any() else tallies
    return tallies.new_zeros(len(found), tallies.shape[1]).index_add_(0, places, tallies)


def resample(
    draws: UInt8[Tensor, "resamples units"], tallies: Float64[Tensor, "units counts"]
) -> Float64[Tensor, "resamples counts"]:
    """Sum the tallies of the units of each draw."""
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
