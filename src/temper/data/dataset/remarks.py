"""Remarks on what was decided about the pixels of images and masks without asking."""

import numpy as np

from temper.data.dataset.rows import Rows
from temper.data.dataset.scan import IGNORED, Survey
from temper.data.params import PrepareParams
from temper.data.sources.listing import Remark, remark_on


def remark_on_colour(rows: Rows, survey: Survey, params: PrepareParams) -> list[Remark]:
    """Return that images in colour became grey, if the settings do not ask for that."""
    names = [rows[int(number)].id for number in np.flatnonzero(survey.coloured)]
    text = (
        "images in colour became grey, because all images were grey when the project was trained first; "
        "prepare.mode: colour decides otherwise"
    )
    return remark_on("converted", text, names if params.mode == "auto" else ())


def remark_on_masks(rows: Rows, survey: Survey) -> list[Remark]:
    """Return how masks were turned, and how many of their pixels do not count."""
    names = [rows[int(number)].id for number in np.flatnonzero(survey.orientations > 1)]
    text = (
        "images with masks are turned by EXIF; masks with swapped sides are turned with them, others as "
        "prepare.mask_orientation says"
    )
    share = survey.truth.ignored_share
    return [
        *remark_on("converted", text, names),
        *([Remark("left out", explain_ignored(share))] if share else []),
    ]


def explain_ignored(share: float) -> str:
    """Return how many pixels of masks do not count, and what to do if they should; empty if all count."""
    if not share:
        return ""
    return (
        f"{share:.1%} of the pixels of the masks are {IGNORED}, which does not count; if it stands for a "
        f"class, name its number: prepare.mask_values: {{{IGNORED}: 1}}"
    )
