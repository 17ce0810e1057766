"""Choose the shares of the splits, the rebalancing, and the margins that the test split can resolve."""

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from temper.problem import SHARE

_SHARES = ((20_000, 0.05, 0.1), (5_000, 0.1, 0.15), (1_000, 0.15, 0.2), (0, 0.15, 0.25))
"""Smallest number of examples, share of validation (of the examples outside the test split), and share of
test (of all examples). Few examples need a larger share to measure anything."""
_MOST_EVEN, _MOST_WEIGHTED = 3.0, 10.0
"""Ratios of the largest class to the smallest. Up to the first, nothing is done (a trial at 2.2 was better
without oversampling). Up to the second, examples are weighted. Above it, rare examples are repeated, since
single weights of ten make steps jump."""
_REPEAT_STRENGTH = 0.5
_EXPECTED, _DISCORDANCE = 0.85, 0.4
"""Score of a model, and how differently two good models err (1: as if independently), from first trials. Only
the margins depend on them."""
_Z = 1.65
"""Standard deviations of a one-sided bound of 95 %."""
_Z_EACH = 3.2
"""The same for about 55 cells at once."""
_GRAIN, LEAST_MARGIN = 0.005, 0.005
_TEACHER_ALLOWANCE = 0.01
"""Drop of the headline score that is allowed from teacher to student, in addition to chance."""
BALANCED = "balanced_accuracy"
"""Score in which a rare class counts as much as a common one."""


@dataclass(frozen=True)
class Shares:
    """Shares and sizes of the splits."""

    validation: float | None
    """Share of the examples outside the test split; None if the source fixes the split."""
    test: float | None
    """Share of all examples; None if the source fixes the split."""
    train_count: int
    validation_count: int
    test_count: int


def choose_shares(num_examples: int, official: Mapping[str, int]) -> Shares:
    """Choose shares by the number of examples. Splits that the source fixes are kept.

    Example:
        >>> choose_shares(2624, {})
        Shares(validation=0.15, test=0.2, train_count=1784, validation_count=315, test_count=525)
    """
    _, validation_share, test_share = next(row for row in _SHARES if num_examples >= row[0])
    rest = official.get("train", 0) if official else num_examples
    test, validation = official.get("test", 0), official.get("validation", 0)
    found: dict[str, float | None] = {"validation": None, "test": None}
    if not test:
        test, found["test"] = round(rest * test_share), test_share
        rest -= test
    if not validation:
        validation, found["validation"] = round(rest * validation_share), validation_share
        rest -= validation
    return Shares(found["validation"], found["test"], rest, validation, test)


@dataclass(frozen=True)
class Balance:
    """How classes of different sizes are balanced."""

    value: dict[str, Any]
    reason: str
    factor: float
    """Number of examples that an epoch draws, as a share of the existing ones."""


def choose_balance(counts: Mapping[str, int]) -> Balance:
    """Choose by the ratio of the largest class to the smallest."""
    if not counts:
        return Balance({"method": "none"}, "no labels to balance: masks or numbers are the truth", 1.0)
    ratio = max(counts.values()) / min(counts.values())
    sizes = f"the largest class has {ratio:.1f} times the examples of the smallest"
    if ratio < _MOST_EVEN:
        return Balance({"method": "none"}, f"{sizes}: balanced enough", 1.0)
    if ratio < _MOST_WEIGHTED:
        return Balance({"method": "weights"}, f"{sizes}: rare classes have more weight", 1.0)
    most, total = max(counts.values()), sum(counts.values())
    drawn = sum(count + _REPEAT_STRENGTH * (most - count) for count in counts.values())
    value = {"method": "oversample", "strength": _REPEAT_STRENGTH}
    return Balance(value, f"{sizes}: rare classes are repeated, half way to equal", drawn / total)


def is_rebalanced(counts: Mapping[str, int], scores: Collection[str]) -> bool:
    """Return whether rare classes get more weight than they have in the data, and a score shows it."""
    return BALANCED in scores and choose_balance(counts).value["method"] != "none"


def choose_bad_share(num_bad: int, num_sampled: int) -> float:
    """Return twice the share of bad images in the sample, in whole hundredths, at least one.

    Example:
        >>> choose_bad_share(0, 500), choose_bad_share(12, 500)
        (0.01, 0.05)
    """
    return min(100, max(1, math.ceil(200 * num_bad / num_sampled - 1e-9))) / 100


def margin(num_images: int, *, each: bool = False) -> float:
    """Return the smallest drop that a test on so many images can tell from chance.

    The drop is rounded up to half points. The difference of two models' scores on the same images has about
    the variance 2 p (1 - p) d / n.

    Example:
        >>> margin(525), margin(10_000), margin(500, each=True)
        (0.025, 0.01, 0.05)
    """
    deviation = math.sqrt(2 * _EXPECTED * (1 - _EXPECTED) * _DISCORDANCE / num_images)
    grains = math.ceil((_Z_EACH if each else _Z) * deviation / _GRAIN - 1e-9)
    return round(max(LEAST_MARGIN, grains * _GRAIN), 3)


def choose_rules(
    test_count: int, stress: int, least: int | None, *, unit: str = SHARE, scale: float = 1.0
) -> tuple[list[dict[str, Any]], str]:
    """Return the gate's rules, with the reason.

    Args:
        test_count: Number of test images.
        stress: Number of them under each condition and severity.
        least: Number of test images of the rarest class, if classes are rebalanced; None if they are not.
        unit: What the headline is measured in.
        scale: Difference of the headline that counts as much as one of a whole share.
    """
    tested, each, below = (
        _in_unit(share, unit, scale)
        for share in (
            margin(test_count),
            margin(stress, each=True),
            margin(test_count) + _TEACHER_ALLOWANCE,
        )
    )
    rules: list[dict[str, Any]] = [
        {"metric": "headline", "max_drop": tested, "vs": "champion"},
        {"metric": "headline", "max_drop": each, "vs": "champion", "on": {"each": True}},
        {"metric": "headline", "max_drop": below, "vs": "teacher"},
    ]
    if least is not None:
        # The mean of two accuracies, one of them exact, varies half as much as the other one.
        rules.insert(1, {"metric": BALANCED, "max_drop": margin(4 * least), "vs": "champion"})
    rare = "" if least is None else f"; about {least:,} images of the rarest class are behind {BALANCED}"
    return rules, (
        f"{test_count:,} test images can show a drop of {_say(tested, unit)}, {stress:,} under stress one of "
        f"{_say(each, unit)}{rare}; smaller margins need more images"
    )


def _in_unit(share: float, unit: str, scale: float) -> float:
    """Return a share, or as large a difference in a unit, rounded to three digits."""
    return round(share, 3) if unit == SHARE else float(f"{share * scale:.3g}")


def _say(value: float, unit: str) -> str:
    return f"{value:.1%}" if unit == SHARE else f"{value:g} {unit}"
