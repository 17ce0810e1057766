"""The significance of a difference between two models: one-sided bounds, McNemar's test, Holm's correction.

The unit is always the image; both models were measured on the same images under the same draws.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from jaxtyping import Float64

_NORMAL = NormalDist()


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another, in the metric's unit; above 0 means better."""

    value: float
    low: float
    """One-sided lower bound: the true difference is above it, with the requested confidence."""
    high: float
    """One-sided upper bound."""
    samples: Float64[np.ndarray, "draws"]
    """The difference under each draw of images."""

    def p_worse(self, margin: float) -> float:
        """Return the chance that a model worse by no more than `margin` looks at least as bad as this one.

        A small value shows that the model is worse by more than `margin`. The p-value uses the standard
        error of the draws, because a share of a thousand draws cannot be as small as a correction for many
        cells requires.
        """
        error = float(np.nanstd(self.samples))
        if not error:
            return 0.0 if self.value < -margin else 1.0
        return _NORMAL.cdf((self.value + margin) / error)


def difference(
    ours: tuple[float, Float64[np.ndarray, "draws"]],
    theirs: tuple[float, Float64[np.ndarray, "draws"]],
    *,
    greater_is_better: bool,
    confidence: float,
) -> Difference:
    """Return the difference of two scores with its one-sided percentile bounds.

    Args:
        ours: The challenger's score, and the same score under each draw.
        theirs: The other model's score, and the same score under the same draws.
        greater_is_better: If False, the signs are reversed.
        confidence: Confidence of each bound by itself.

    Source:
        Efron and Tibshirani 1993, chapter 13.
    """
    sign = 1.0 if greater_is_better else -1.0
    samples = sign * (ours[1] - theirs[1])
    low, high = np.nanquantile(samples, [1 - confidence, confidence])
    return Difference(sign * (ours[0] - theirs[0]), float(low), float(high), samples)


def mid_p(gained: int, lost: int) -> float:
    """Return the one-sided mid-p value of McNemar's test.

    It is the probability that two equal models differ as much in favour of the first.

    Args:
        gained: Images that only the first model answers correctly.
        lost: Images that only the second model answers correctly.

    Returns:
        P(X > gained) + P(X = gained) / 2 for X ~ Binomial(gained + lost, 1/2); 0.5 if the models never
        differ.

    Source:
        Fagerland, Lydersen and Laake 2013, doi:10.1186/1471-2288-13-91.

    Example:
        >>> round(mid_p(1, 1), 6), round(mid_p(2, 0), 6)
        (0.5, 0.125)
    """
    total = gained + lost
    logs = [
        math.lgamma(total + 1) - math.lgamma(k + 1) - math.lgamma(total - k + 1)
        for k in range(gained, total + 1)
    ]
    chances = [math.exp(value - total * math.log(2)) for value in logs]
    return min(1.0, sum(chances[1:]) + chances[0] / 2)


def discordant(
    ours: Float64[np.ndarray, "images"], theirs: Float64[np.ndarray, "images"]
) -> tuple[int, int] | None:
    """Count the images on which only the first model, and only the second, is right.

    Returns None if an image's score is not right or wrong.
    """
    both = np.stack([ours, theirs])
    if not np.isin(both, (0.0, 1.0)).all():
        return None
    return int((ours > theirs).sum()), int((theirs > ours).sum())


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values with Holm's correction.

    All findings whose value is below a level can be accepted together; the chance of any error is then at
    most that level.

    Source:
        Holm 1979, Scandinavian Journal of Statistics 6:65-70.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    found, highest = [0.0] * len(p_values), 0.0
    for rank, number in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[number]))
        found[number] = highest
    return found
