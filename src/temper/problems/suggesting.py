"""Suggestion of the kind of problem of a dataset, from the labels, masks and truth of its rows."""

import json
from collections.abc import Sequence
from typing import Any

from temper.problem import Problem, Row
from temper.problems.detection import Detection
from temper.problems.keypoints import Keypoints
from temper.problems.multiclass import Multiclass
from temper.problems.multilabel import Multilabel
from temper.problems.regression import Regression
from temper.problems.segmentation import IGNORED, Segmentation

_ROOM = 1.5
"""How many times as many boxes as the fullest image shows an answer has room for, if that is many."""


def suggest_problem(rows: Sequence[Row], *, numbers: Sequence[int | str] = ()) -> Problem:
    """Return the problem that fits the rows, as params.yaml has it: not bound to them.

    Masks give segmentation, boxes give detection, points give keypoints, numbers give regression, exactly one
    label per row gives multiclass, and anything else gives multilabel.

    Args:
        rows: All rows of the dataset.
        numbers: Class numbers in the masks, or colours as texts.

    Raises:
        ValueError: If the masks have fewer than two class numbers.
    """
    problem: Any
    truths = [json.loads(row.truth or "{}") for row in rows]
    boxes = [len(truth.get("boxes", ())) for truth in truths]
    if any(row.mask for row in rows):
        values = suggest_mask_values(numbers)
        named = tuple(map(str, values.values())) if values else ()
        # Rows say the names of classes in masks that ingest draws.
        drawn = any("numbers" in truth for truth in truths)
        names = () if drawn else named or _name_classes(numbers)
        problem = Segmentation(kind="segmentation", classes=names)
    elif any(boxes):
        problem = Detection(kind="detection")
        if max(boxes) > problem.most:
            problem = Detection(kind="detection", most=round(_ROOM * max(boxes)))
    elif any("points" in truth for truth in truths):
        problem = Keypoints(kind="keypoints")
    elif any(row.truth for row in rows):
        problem = Regression(kind="regression")
    elif all(len(row.labels) == 1 for row in rows):
        problem = Multiclass(kind="multiclass")
    else:
        problem = Multilabel(kind="multilabel")
    return problem


def suggest_mask_values(numbers: Sequence[int | str]) -> dict[int | str, int | str]:
    """Return names for what is in masks that number their classes otherwise than 0, 1, 2; empty for others.

    Small gaps are classes that the masks which were looked at do not show. Colours are always named.

    Args:
        numbers: Numbers in the masks, or colours as texts, the background first.

    Example:
        >>> suggest_mask_values([0, 255]), suggest_mask_values([1, 2])
        ({0: 'background', 255: 'class-1'}, {1: 'background', 2: 'class-1'})
        >>> suggest_mask_values([0, 1, 255]), suggest_mask_values([0, 2, 3])
        ({}, {})
        >>> suggest_mask_values(["#000000", "#ff0000"])
        {'#000000': 'background', '#ff0000': 'class-1'}
    """
    found: list[int | str] = [*dict.fromkeys(numbers)]
    if all(isinstance(each, int) for each in found):
        found = sorted(found, key=int)
        plain = [number for number in found if number != IGNORED]
        if len(plain) > 1 and plain[0] == 0 and int(plain[-1]) < 2 * len(plain):
            return {}
    if len(found) < 2:
        return {}
    return {each: _name(place) for place, each in enumerate(found)}


def _name(number: int) -> str:
    return f"class-{number}" if number else "background"


def _name_classes(numbers: Sequence[int | str]) -> tuple[str, ...]:
    """Return a name for each number up to the largest one.

    Raises:
        ValueError: If there are fewer than two.
    """
    named = sorted(int(number) for number in {*numbers} - {IGNORED} if isinstance(number, int))
    if len(named) < 2:
        also = (
            f", and {IGNORED}, which marks pixels that do not count; write the second class as 1"
            if IGNORED in numbers
            else ""
        )
        raise ValueError(
            "the masks contain fewer than two class numbers or colours "
            f"({', '.join(map(str, named or numbers)) or 'none'})"
            f"{also}: classes in a mask must be numbered 0, 1, 2, ..."
        )
    return tuple(map(_name, range(named[-1] + 1)))
