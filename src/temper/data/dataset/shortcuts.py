"""Shortcuts: properties of files that give a class away, so that a network may learn them instead.

If all images of one class are grey, or come from another camera, a network needs not look at what they show.
It is excellent on the test split, which has the same property, and useless elsewhere (Geirhos et al. 2020,
"Shortcut learning in deep neural networks").
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import numpy as np

from temper.data.dataset.rows import Rows
from temper.data.dataset.scan import Survey
from temper.data.remark import Remark, remark_on

_INSIDE, _OUTSIDE, _LEAST = 0.9, 0.1, 10
"""Smallest share of a property in a class, largest one outside it, and smallest number of images of each."""
_PER_OCTAVE = 2
"""Number of steps in which areas double."""
_SAME_ENDINGS = {".jpeg": ".jpg", ".jpe": ".jpg", ".jfif": ".jpg", ".tiff": ".tif"}


def find_shortcuts(rows: Rows, survey: Survey) -> list[Remark]:
    """Return which classes can be told from all others by colour, size or type of the files alone."""
    usable = np.setdiff1d(np.arange(len(rows)), np.fromiter(survey.bad, np.int64))
    members: dict[str, list[int]] = defaultdict(list)
    for place, number in enumerate(usable):
        for name in survey.truth.strata[number]:
            members[name].append(place)
    found: dict[str, str] = {}
    for values, say in _properties(rows, survey, usable):
        kinds, codes, totals = np.unique(values, return_inverse=True, return_counts=True)
        for name in sorted(members.keys() - found.keys()) if len(kinds) > 1 else ():
            inside, outside = len(members[name]), len(usable) - len(members[name])
            if min(inside, outside) < _LEAST:
                continue
            own, counts = np.unique(codes[members[name]], return_counts=True)
            most = own[counts.argmax()]
            share, elsewhere = counts.max() / inside, (totals[most] - counts.max()) / outside
            if share >= _INSIDE and elsewhere <= _OUTSIDE:
                found[name] = f"{name} ({share:.0%} are {say(kinds[most])}, of the others {elsewhere:.0%})"
    text = (
        "classes can be told from the others by colour, size or type of their files alone, so a network may "
        "learn that instead of what the images show; add images of other origin"
    )
    return remark_on("noticed", text, found.values())


def _properties(
    rows: Rows, survey: Survey, numbers: np.ndarray
) -> Iterator[tuple[np.ndarray, Callable[[Any], str]]]:
    """Yield properties of the files of some rows, each with a function that says what a value means."""
    yield survey.grey[numbers], lambda grey: "grey" if grey else "in colour"
    heights, widths = survey.sizes[numbers].T.astype(np.int64)
    yield heights << 32 | widths, lambda size: f"{size & 0xFFFFFFFF}x{size >> 32} px"
    steps = np.round(np.log2(np.maximum(1, heights * widths)) * _PER_OCTAVE)
    yield steps, lambda step: f"about {2 ** (step / _PER_OCTAVE / 2):.0f} px wide and high"
    paths = rows.table["path"].take(numbers).to_pylist()
    endings = [PurePosixPath(path).suffix.lower().partition("#")[0] for path in paths]
    same = [_SAME_ENDINGS.get(ending, ending) for ending in endings]
    yield np.array(same), lambda ending: str(ending) or "without ending"
