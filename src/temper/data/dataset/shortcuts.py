"""Shortcuts: properties of files that give a class away, so that a network may learn them instead.

If all images of one class are grey, or come from another camera, a network needs not look at what they show.
It is excellent on the test split, which has the same property, and useless elsewhere (Geirhos et al. 2020,
"Shortcut learning in deep neural networks").
"""

from pathlib import PurePosixPath

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
    strata = [survey.truth.strata[number] for number in usable]
    found: dict[str, str] = {}
    for values in _properties(rows, survey, usable):
        names, codes = np.unique(values, return_inverse=True)
        if len(names) == 1:
            continue
        totals = np.bincount(codes, minlength=len(names))
        for name in sorted({name for each in strata for name in each} - found.keys()):
            member = np.fromiter((name in each for each in strata), bool, len(strata))
            inside, outside = int(member.sum()), int((~member).sum())
            if min(inside, outside) < _LEAST:
                continue
            counts = np.bincount(codes[member], minlength=len(names))
            most = int(counts.argmax())
            share, elsewhere = counts[most] / inside, (totals[most] - counts[most]) / outside
            if share >= _INSIDE and elsewhere <= _OUTSIDE:
                found[name] = f"{name} ({share:.0%} are {names[most]}, of the others {elsewhere:.0%})"
    text = (
        "classes can be told from the others by colour, size or type of their files alone, so a network may "
        "learn that instead of what the images show; add images of other origin"
    )
    return remark_on("noticed", text, found.values())


def _properties(rows: Rows, survey: Survey, numbers: np.ndarray) -> list[np.ndarray]:
    """Return properties of the files of some rows, as texts, [property][row]."""
    heights, widths = survey.sizes[numbers].T
    steps = np.round(np.log2(np.maximum(1, heights.astype(np.int64) * widths)) * _PER_OCTAVE)
    sides = np.round(2 ** (steps / _PER_OCTAVE / 2)).astype(np.int64)
    paths = rows.table["path"].take(numbers).to_pylist()
    endings = [PurePosixPath(path).suffix.lower().partition("#")[0] for path in paths]
    return [
        np.where(survey.grey[numbers], "grey", "in colour"),
        np.array([f"{width}x{height} px" for height, width in zip(heights, widths, strict=True)]),
        np.array([f"about {side} px wide and high" for side in sides]),
        np.array([_SAME_ENDINGS.get(ending, ending) or "without ending" for ending in endings]),
    ]
