"""Suggestion of the kind of problem of a dataset, from the labels and masks of its rows."""

from collections.abc import Sequence
from typing import Any

from temper.problem import Problem, Row
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.segmentation import IGNORED, Segmentation


def suggest_problem(rows: Sequence[Row], *, numbers: Sequence[int] = ()) -> Problem:
    """Return the problem that fits the rows.

    Masks give segmentation, exactly one label per row gives multiclass, and anything else gives multilabel.

    Args:
        rows: All rows of the dataset.
        numbers: Class numbers in the masks.

    Raises:
        ValueError: If the masks have fewer than two class numbers, or the rows do not fit the problem.
    """
    if any(row.mask for row in rows):
        problem: Any = _name_classes(sorted({*numbers} - {IGNORED}), ignored=IGNORED in numbers)
    elif all(len(row.labels) == 1 for row in rows):
        problem = Multiclass(kind="multiclass")
    else:
        problem = Multilabel(kind="multilabel")
    return problem.bind(rows)


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
