"""What the inbox knows of sources, images and problems: how new examples come in, and which are usable."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from temper.config import Params
from temper.data.dataset.given_columns import GivenColumns, declare_inputs
from temper.data.dataset.resize import unify_chunks
from temper.data.dataset.scan import look_over
from temper.data.examples import count_listed
from temper.data.images.store import Store
from temper.data.intake import TAKE_IN
from temper.data.intake.offer import Arrival, Draw, Intake, Offer, Write
from temper.data.params import PrepareParams
from temper.data.sources.litter import is_litter
from temper.data.sources.walk import Walk, list_files
from temper.inputs.facts import picture_of
from temper.problem import Problem, Row
from temper.problems.classes import merged_labels

__all__ = [
    "TAKE_IN",
    "Arrival",
    "Intake",
    "Offer",
    "Walk",
    "Write",
    "count_listed",
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
        partial(find_unusable, folder=labelled, params=params.prepare, unbound=problem),
    )


def find_unusable(
    rows: Sequence[Row],
    problem: Problem | None,
    draw: Draw | None,
    folder: Path,
    params: PrepareParams,
    unbound: Problem,
) -> Mapping[int, str]:
    """Return which new rows prepare could not use, by number, and why.

    Args:
        rows: Their paths are those of an archive of the folder.
        problem: Problem, bound to the data, that looks at the truth of the rows; None if it need not.
        draw: Returns a mask that lies in no file; None if there are none.
        folder: Folder of the new files.
        params: How prepare reads images. The range of their levels does not matter.
        unbound: The problem before it is bound, which knows its inputs.
    """
    if not rows:
        return {}
    settings = replace(params, range="per-image")
    with Store({}, lambda name: folder / name, draw) as store, TemporaryDirectory() as work:
        facts = declare_inputs(problem or unbound, rows, settings)
        if problem is None and picture_of(facts) is None:
            return GivenColumns.create(facts, len(rows), settings, Path(work)).read_files(
                rows, store, settings
            )
        if problem is None:
            chunks = unify_chunks(rows, store, settings, channels=3, masks=False)
            return {number: reason for chunk in chunks for number, reason in chunk.bad.items()}
        # No pixels need to be kept, nor checked for training from the files.
        settings = replace(settings, keep="encoded", shrink_px=settings.max_side_px)
        return look_over(rows, store, problem, facts, settings, Path(work)).bad


def find_class(name: str, known: Iterable[str]) -> str | None:
    """Return the class that a name means: the same, or the only one that differs in spelling.

    Example:
        >>> find_class("Cat", ["cat", "dog"]), find_class("owl", ["cat", "dog"])
        ('cat', None)
    """
    classes = list(known)
    return name if name in classes else merged_labels(classes, [name]).get(name)
