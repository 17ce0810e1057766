"""Which kind of question a data set asks, by the truth that its rows carry."""

from collections.abc import Sequence
from typing import Any

from temper.problem import Problem, Row
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.segmentation import IGNORED, Segmentation


def suggest_problem(rows: Sequence[Row], *, numbers: Sequence[int] = ()) -> Problem:
    """The problem that fits some rows: masks ask for each pixel, several labels (or none) for each label, one label for the class.

    Args:
        rows: All of them.
        numbers: Class numbers found in the masks.

    Raises:
        ValueError: If the masks' numbers are no class numbers, or the rows cannot be asked that question.
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
            f"the masks hold one class number only ({', '.join(map(str, numbers)) or 'none'}){also}: a mask numbers its classes 0, 1, 2, ..."
        )
    names = ("background", *(f"class-{number}" for number in range(1, numbers[-1] + 1)))
    return Segmentation(kind="segmentation", classes=names)
