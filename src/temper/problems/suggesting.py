"""Suggestion of the kind of problem of a dataset, from the labels and masks of its rows."""

from collections.abc import Sequence
from typing import Any

from temper.problem import Problem, Row
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.regression import Regression
from temper.problems.segmentation import IGNORED, Segmentation


def suggest_problem(rows: Sequence[Row], *, numbers: Sequence[int] = ()) -> Problem:
    """Return the problem that fits the rows.

    Masks give segmentation, numbers give regression, exactly one label per row gives multiclass, and anything
    else gives multilabel.

    Args:
        rows: All rows of the dataset.
        numbers: Class numbers in the masks.

    Raises:
        ValueError: If the masks have fewer than two class numbers, or the rows do not fit the problem.
    """
    if any(row.mask for row in rows):
        values = suggest_mask_values(numbers)
        named = {values.get(number, number) for number in numbers}
        problem: Any = _name_classes(sorted(named - {IGNORED}), ignored=IGNORED in named)
    elif any(row.truth for row in rows):
        problem = Regression(kind="regression")
    elif all(len(row.labels) == 1 for row in rows):
        problem = Multiclass(kind="multiclass")
    else:
        problem = Multilabel(kind="multilabel")
    return problem.bind(rows)


def suggest_mask_values(numbers: Sequence[int]) -> dict[int, int]:
    """Return the class numbers of masks that number their classes otherwise than 0, 1, 2; empty for others.

    Small gaps are classes that the masks which were looked at do not show.

    Example:
        >>> suggest_mask_values([0, 255]), suggest_mask_values([0, 128, 255]), suggest_mask_values([1, 2])
        ({255: 1}, {128: 1, 255: 2}, {1: 0, 2: 1})
        >>> suggest_mask_values([0, 1, 255]), suggest_mask_values([0, 2, 3])
        ({}, {})
    """
    found = sorted(set(numbers))
    plain = [number for number in found if number != IGNORED]
    if len(plain) > 1 and plain[0] == 0 and plain[-1] < 2 * len(plain):
        return {}
    return {number: place for place, number in enumerate(found) if number != place} if len(found) > 1 else {}


def _name_classes(numbers: Sequence[int], *, ignored: bool) -> Segmentation:
    if len(numbers) < 2:
        also = (
            f", and {IGNORED}, which marks pixels that do not count; write the second class as 1"
            if ignored
            else ""
        )
        raise ValueError(
            f"the masks contain fewer than two class numbers ({', '.join(map(str, numbers)) or 'none'})"
            f"{also}: classes in a mask must be numbered 0, 1, 2, ..."
        )
    names = ("background", *(f"class-{number}" for number in range(1, numbers[-1] + 1)))
    return Segmentation(kind="segmentation", classes=names)
