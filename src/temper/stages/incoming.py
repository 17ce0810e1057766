"""What the inbox knows of sources, images and problems: how new examples come in, and which are usable."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from temper.config import Params
from temper.data.dataset.resize import has_masks, unify_chunks
from temper.data.images.reading import Store
from temper.data.intake import TAKE_IN
from temper.data.intake.offer import Arrival, Intake, Offer, Write
from temper.data.params import PrepareParams
from temper.data.sources.litter import is_litter
from temper.data.sources.walk import Walk, list_files
from temper.problem import Problem, Row
from temper.problems.classes import merged_labels

__all__ = [
    "TAKE_IN",
    "Arrival",
    "Intake",
    "Offer",
    "Walk",
    "Write",
    "is_litter",
    "list_files",
    "make_offer",
]


def make_offer(
    inbox: Path,
    labelled: Path,
    aside: Path,
    found: Walk,
    params: Params,
    *,
    is_fresh: Callable[[Path], bool],
    new_classes: bool,
) -> Offer:
    """Return what a source must know of the inbox to decide what becomes of its files.

    Args:
        inbox: Folder of the inbox.
        labelled: Its folder of new labelled files.
        aside: Its folder of what cannot be taken.
        found: The files in `labelled`.
        params: Parameters of the project.
        is_fresh: Returns whether a file may still be being copied.
        new_classes: Whether the dataset may get new classes.
    """
    problem: Any = params.problem
    return Offer(
        inbox,
        labelled,
        aside,
        found,
        is_fresh,
        problem,
        new_classes,
        find_class,
        partial(find_unusable, folder=labelled, params=params.prepare),
    )


def find_unusable(
    rows: Sequence[Row], problem: Problem | None, folder: Path, params: PrepareParams
) -> Mapping[int, str]:
    """Return which new rows prepare could not use, by number, and why.

    Args:
        rows: Their paths are those of an archive of the folder.
        problem: Problem, bound to the data, that looks at the truth of the rows; None if it need not.
        folder: Folder of the new files.
        params: How prepare reads images. The range of their levels does not matter.
    """
    unusable: dict[int, str] = {}
    if not rows:
        return unusable
    settings = replace(params, range="per-image")
    with Store({}, lambda name: folder / name) as store:
        for chunk in unify_chunks(rows, store, settings, channels=3, masks=has_masks(rows)):
            unusable |= chunk.bad
            for place, number in enumerate(chunk.numbers):
                if problem is None or number in chunk.bad:
                    continue
                images = {"image": chunk.images[place]}
                if chunk.masks is not None and rows[number].mask is not None:
                    images["mask"] = chunk.masks[place]
                try:
                    problem.pack(rows[number], images, chunk.frames[place])
                except ValueError as error:
                    unusable[number] = str(error)
    return unusable


def find_class(name: str, known: Iterable[str]) -> str | None:
    """Return the class that a name means: the same, or the only one that differs in spelling.

    Example:
        >>> find_class("Cat", ["cat", "dog"]), find_class("owl", ["cat", "dog"])
        ('cat', None)
    """
    classes = list(known)
    return name if name in classes else merged_labels(classes, [name]).get(name)
