"""Tests whether two samples come from the same distribution, without assumptions about that distribution."""

import torch
from jaxtyping import Float64
from torch import Tensor


def energy_test(
    first: Float64[Tensor, "n features"],
    second: Float64[Tensor, "m features"],
    *,
    permutations: int = 999,
    generator: torch.Generator,
) -> tuple[float, float]:
    """Return the energy distance of two samples of vectors, and how often chance alone makes one as large.

    The p-value comes from a permutation test. Its level is exact for every distribution, as long as the
    examples are exchangeable.

    Args:
        first: The first sample, at least two rows.
        second: The second sample.
        permutations: Number of random permutations; the smallest p-value is 1 / (permutations + 1).
        generator: Generator that draws the permutations.

    Returns:
        The distance (not negative, 0 for equal samples) and the p-value.

    Source:
        Székely and Rizzo 2004, "Testing for equal distributions in high dimension", InterStat 5.
        The p-value: Phipson and Smyth 2010, doi:10.2202/1544-6115.1585.
    """
    n, m = len(first), len(second)
    pooled = torch.cat([first, second])
    # Computed from differences: with products, which torch uses from 26 rows on, equal rows have a small
    # distance.
    distances = torch.cdist(pooled, pooled, compute_mode="donot_use_mm_for_euclid_dist")
    marks = torch.zeros(permutations + 1, n + m, dtype=torch.float64)
    marks[0, :n] = 1
    for row in marks[1:]:
        row[torch.randperm(n + m, generator=generator)[:n]] = 1
    # Sums of distances within the first sample, between the samples, and within the second, for all divisions
    # at once.
    to_first = marks @ distances
    within = (to_first * marks).sum(dim=1)
    between = (to_first * (1 - marks)).sum(dim=1)
    others = distances.sum() - within - 2 * between
    found = 2 * between / (n * m) - within / n**2 - others / m**2
    return max(0.0, float(found[0])), (1 + int((found[1:] >= found[0] - 1e-12).sum())) / (permutations + 1)


def ks_test(first: Float64[Tensor, "n"], second: Float64[Tensor, "m"]) -> tuple[float, float]:
    """Return Kolmogorov and Smirnov's statistic of two samples of numbers, and its p-value.

    Returns:
        The largest distance between the two empirical distribution functions, 0 to 1, and how often chance
        makes one as large.
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(first.numpy(), second.numpy())
    return float(found.statistic), float(found.pvalue)
