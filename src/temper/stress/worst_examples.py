"""The examples on which a candidate was most wrong, as pictures."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from jaxtyping import Float64
from torch import Tensor

from temper.fields import Field
from temper.maths.batching import rows_of
from temper.problem import Problem, Targets
from temper.stress.evaluation import Candidate
from temper.stress.judged_boxes import Outline, outline
from temper.stress.pool import Pool

Mark: TypeAlias = Callable[[np.ndarray, Mapping[str, np.ndarray], Mapping[str, Field], str], np.ndarray]
"""Draws columns of an example over its image in a colour."""
TRUE, ANSWERED = "#40c040", "#ff8c1a"
"""Colours of what is true and of what was answered."""


@dataclass(frozen=True)
class Example:
    """An example of a sheet."""

    image: np.ndarray
    """uint8 [height, width, channels]."""
    caption: str
    outlines: tuple[Outline, ...] = ()
    """Boxes to be drawn over it."""


def find_worst(
    problem: Problem,
    candidate: Candidate,
    pool: Pool,
    *,
    targets: Targets,
    errors: Float64[Tensor, "images"],
    count: int,
    names: Sequence[str] = (),
    mark: Mark | None = None,
) -> list[Example]:
    """Return the examples on which a candidate was most wrong, worst first.

    Examples that it answered without any error are not mistakes and are left out. Where single boxes are
    right or wrong (`Problem.verdicts`), each has the look that says so, and the caption the example's name.
    Otherwise `mark` draws what lies in an image: what is true in the colour `TRUE`, what was answered in
    `ANSWERED`.
    """
    keys = errors.argsort(descending=True, stable=True)[:count]
    keys = keys[errors[keys] > 0]
    if not len(keys):
        return []
    answer = candidate(pool.serve(keys))
    found = []
    for place, key in enumerate(keys.tolist()):
        alone = {name: value[place : place + 1] for name, value in answer.items()}
        truth = rows_of(targets, slice(key, key + 1))
        caption, image = problem.caption(alone, truth), pool.draw(key)
        ours, theirs = (
            {name: value[0].numpy() for name, value in columns.items()} for columns in (truth, alone)
        )
        if (verdicts := problem.verdicts(alone, truth)) is not None:
            true, answered = (each[0].numpy() for each in verdicts)
            outlines = outline((ours, problem.truth, true), (theirs, problem.answer, answered))
            caption = f"{names[key]}: {caption}" if names else caption
            found.append(Example(image, caption, tuple(outlines)))
            continue
        if mark is not None:
            image = mark(mark(image, ours, problem.truth, TRUE), theirs, problem.answer, ANSWERED)
        found.append(Example(image, caption))
    return found
