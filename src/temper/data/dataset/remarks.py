"""Remarks on what was decided about the pixels of images and masks without asking."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from temper.data.dataset.resize import has_masks
from temper.data.dataset.rows import Rows
from temper.data.dataset.scan import Survey
from temper.data.images.levels import CLIPPED, find_levels, find_mark, find_outliers, sample_levels
from temper.data.images.mask_values import IGNORED, read_meaning
from temper.data.images.store import Store
from temper.data.images.wide_sample import read_wide
from temper.data.params import PrepareParams
from temper.data.remark import NAMED, Kind, Remark, remark_on
from temper.fonts import say_missing
from temper.inputs.facts import Facts
from temper.inputs.image_input import pixels_of
from temper.maths.geometry import place_on_canvas

_DARK, _DARK_SHARE = 1 / 8, 0.05
"""Share of the range below which all levels of an image are dark, and share of such images that is said."""
_SAME_MASKS = 5
"""Smallest number of equal masks that is said."""
_TINY_PX, _SQUEEZED = 8, 4
"""Side below which an image shows nearly nothing, and how much more one side may shrink than the other."""
_FEW_COLOURED = 0.05
"""Share of images in colour below which that is said."""
_SAMPLED = 500
"""Number of images in which levels are looked for."""


def choose_levels(
    params: PrepareParams, rows: Rows, store: Store, facts: Facts
) -> tuple[PrepareParams, list[Remark]]:
    """Return the settings with the range of levels that suits the images, and a remark if there is a choice.

    A sample of the images is opened; images of 8 bits are not decoded.
    """
    pixels = pixels_of(facts)
    if params.range != "auto" or pixels is None:
        return params, []
    some = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), _SAMPLED)).round().astype(np.int64))
    wide = []
    for row in rows.take(some):
        store.open(row.path)
        image = read_wide(store.read(row.path), pixels, max_pixels=params.max_pixels)
        if image is not None:
            wide.append(sample_levels(image))
    if not wide:
        return replace(params, range="full"), []
    low, high = find_levels(wide)
    text = (
        f"{len(wide)} of {len(some)} sampled images have more than 8 bits: their levels {low:g} to {high:g} "
        "become 0 to 255; prepare.range decides otherwise"
    )
    remarks = [Remark("guessed", text)]
    dark = sum(int(levels.size > 0 and levels.max() < low + (high - low) * _DARK) for levels in wide)
    if dark > _DARK_SHARE * len(wide):
        text = (
            f"{dark} of {len(wide)} sampled images with more than 8 bits use less than an eighth of this "
            "range, and become dark; prepare.range: per-image scales each by itself"
        )
        remarks.append(Remark("noticed", text))
    if (mark := find_mark(wide)) is not None:
        rest = np.concatenate([image.ravel() for image in wide])
        rest = rest[rest != mark]
        text = (
            f"the level {mark:g} is frequent and far from all others: if nothing was measured there, set "
            f"prepare.range: [{float(rest.min()):g}, {float(rest.max()):g}]"
        )
        remarks.append(Remark("noticed", text))
    elif (band := find_outliers(wide, (low, high))) is not None:
        text = (
            f"98% of the levels lie from {band[0]:g} to {band[1]:g}, less than an eighth of this range, and "
            "become dark or flat: if the others are hot pixels, set "
            f"prepare.range: [{band[0]:g}, {band[1]:g}]"
        )
        remarks.append(Remark("noticed", text))
    return replace(params, range=(low, high)), remarks


def remark_on_images(
    rows: Rows, survey: Survey, classes: Sequence[str], params: PrepareParams
) -> list[Remark]:
    """Return what was converted, left out or noticed in images and masks.

    Raises:
        ValueError: If palettes of masks number the same colours differently.
    """
    return [
        *_remark_on_colour(rows, survey, params),
        *_remark_on_letters(classes),
        *remark_on_sizes(rows, survey, params),
        *(
            remark
            for note, numbers in survey.notes.items()
            if note != CLIPPED or params.range == "auto"
            for remark in _remark_on_rows(*note, rows, np.setdiff1d(numbers, [*survey.bad]))
        ),
        *_remark_on_masks(rows, survey, classes, params),
        *_remark_on_places(rows, survey),
    ]


def _remark_on_colour(rows: Rows, survey: Survey, params: PrepareParams) -> list[Remark]:
    """Return that images in colour became grey, if the settings do not ask for that."""
    text = (
        "images in colour became grey, because all images were grey when the project was trained first; "
        "prepare.mode: colour decides otherwise"
    )
    colourful = np.setdiff1d(np.flatnonzero(~survey.grey), [*survey.bad])
    some = 0 < len(colourful) <= _FEW_COLOURED * len(rows) and params.mode == "auto" and survey.channels == 3
    other = "images have colour, all others are grey: all are kept in colour; prepare.mode: grey changes that"
    return [
        *_remark_on_rows(
            "converted", text, rows, np.flatnonzero(survey.coloured) if params.mode == "auto" else []
        ),
        *_remark_on_rows("noticed", other, rows, colourful if some else []),
    ]


def _remark_on_rows(kind: Kind, text: str, rows: Rows, numbers: Sequence[int] | np.ndarray) -> list[Remark]:
    """Return a remark about some rows, or none if there are none."""
    first = rows.table["id"].take(np.asarray(numbers[:NAMED], np.int64)).to_pylist()
    return [Remark(kind, text, len(numbers), tuple(first))] if len(numbers) else []


def _remark_on_letters(classes: Sequence[str]) -> list[Remark]:
    """Return which letters of the names of classes plots cannot show."""
    missing = say_missing(classes)
    return [Remark("noticed", missing)] if missing else []


def remark_on_sizes(rows: Rows, survey: Survey, params: PrepareParams) -> list[Remark]:
    """Return which images or clips are tiny, or lose their shape when they are brought to one size."""
    sizes = survey.sizes.astype(np.float64).clip(min=1)
    sizes[[*survey.bad]] = params.height_px, params.width_px
    stretched = sizes[:, 0] / sizes[:, 1] * params.width_px / params.height_px
    squeezed = (np.maximum(stretched, 1 / stretched) >= _SQUEEZED) & (params.fit == "stretch")
    tiny = sizes.min(axis=1) < min(_TINY_PX, params.height_px, params.width_px)
    text = (
        f"images lose their shape: they are made {params.width_px}x{params.height_px} px, which squeezes one "
        f"side {_SQUEEZED} times as much as the other, or more; remove or cut them, or set prepare.fit: "
        "letterbox"
    )
    return [
        *_remark_on_rows("noticed", text, rows, np.flatnonzero(squeezed)),
        *_remark_on_rows(
            "noticed", f"images have a side shorter than {_TINY_PX} px", rows, np.flatnonzero(tiny)
        ),
        *_remark_on_width(rows, survey, params),
        *_remark_on_thin(rows, survey, params),
    ]


def _remark_on_thin(rows: Rows, survey: Survey, params: PrepareParams) -> list[Remark]:
    """Return of which images borders leave only a thin strip."""
    heights, widths = survey.sizes.astype(np.int64).clip(min=1).T
    to = (params.height_px, params.width_px)
    (tall, wide), _ = place_on_canvas(heights, widths, to, params.fit, np.maximum)
    shown = np.minimum(heights / tall * to[0], widths / wide * to[1])
    thin = np.setdiff1d(np.flatnonzero((shown < _TINY_PX) & (shown < min(to))), [*survey.bad])
    text = (
        f"images have a side shorter than {_TINY_PX} px between the borders of prepare.fit: {params.fit}; "
        "cut them into parts, or make prepare.height_px and width_px larger"
    )
    return _remark_on_rows("noticed", text, rows, thin)


def _remark_on_width(rows: Rows, survey: Survey, params: PrepareParams) -> list[Remark]:
    """Return which images were squeezed across, because at the full height they are too wide."""
    if params.fit != "keep-height":
        return []
    heights, widths = survey.sizes.astype(np.int64).clip(min=1).T
    # The canvas of a very narrow image of this height is as wide as an image may be.
    (_, room), _ = place_on_canvas(heights, 1, (params.height_px, params.width_px), params.fit, np.maximum)
    wide = np.setdiff1d(np.flatnonzero(widths > room), [*survey.bad])
    if not len(wide):
        return []
    text = (
        f"images are wider than prepare.width_px = {params.width_px} at the full height of "
        f"{params.height_px} px, and are squeezed across to it, at most {(widths / room)[wide].max():.1f} "
        "times; a larger prepare.width_px keeps their proportions"
    )
    return _remark_on_rows("converted", text, rows, wide)


def _remark_on_equal_masks(rows: Rows, survey: Survey) -> list[Remark]:
    """Return that most images have the same mask, if it shows more than one class."""
    numbers = np.setdiff1d(np.arange(len(rows)), np.fromiter(survey.bad, np.int64))
    digests, which, counts = np.unique(survey.truth.digests[numbers], return_inverse=True, return_counts=True)
    same = numbers[which == counts.argmax()] if len(digests) else numbers
    if 2 * len(same) <= len(numbers) or len(same) < _SAME_MASKS or len(survey.truth.strata[same[0]]) < 2:
        return []
    return _remark_on_rows("noticed", "images have the same mask: is it the right one?", rows, same)


def _remark_on_mixed_masks(rows: Rows, survey: Survey) -> list[Remark]:
    """Return which masks hold one class and 255 only, if others show several classes."""
    several = sum(len(strata) > 1 for strata in survey.truth.strata)
    text = (
        "masks hold one class and 255, which does not count, while others show several classes: if 255 is a "
        "class there, set prepare.mask_values: {255: 1}"
    )
    return _remark_on_rows("noticed", text, rows, survey.truth.only_ignored if several else [])


def _remark_on_masks(
    rows: Rows, survey: Survey, classes: Sequence[str], params: PrepareParams
) -> list[Remark]:
    """Return how masks were turned, and how many of their pixels do not count.

    Raises:
        ValueError: If most masks have colours without a class, palettes number the same colours differently,
            or masks of turned images may lie either way.
    """
    if not has_masks(rows):
        return []
    survey.unnamed.check(len(rows))
    meaning = read_meaning(params.mask_values, classes)
    masked = np.asarray(rows.table["mask"].is_valid()) & (survey.orientations > 1)
    turned = np.flatnonzero(masked & survey.swapped).tolist()
    open_ones = np.flatnonzero(masked & ~survey.swapped).tolist()
    undecided = [rows[number].id for number in open_ones if number not in survey.bad]
    if turned and undecided and params.mask_orientation == "auto":
        raise ValueError(
            f"EXIF turns images with masks: {len(turned)} masks have swapped sides, so they lie as pixels "
            f"are stored; {len(undecided)} have the size of their turned image, so they may lie either way "
            f"(for example {undecided[0]}); set prepare.mask_orientation: stored, most likely, or upright"
        )
    either = {"stored": "they are stored", "upright": "upright"}.get(
        params.mask_orientation,
        "upright, which their sizes do not show: look at artifacts/prepare/sheet.png; "
        "prepare.mask_orientation: stored turns them",
    )
    share = survey.truth.ignored_share
    return [
        *remark_on(
            "converted",
            "masks of images that EXIF turns have swapped sides and were turned, too",
            [rows[number].id for number in turned],
        ),
        *_remark_on_equal_masks(rows, survey),
        *_remark_on_mixed_masks(rows, survey),
        *remark_on(
            "noticed",
            f"{'colours' if meaning.colours else 'numbers'} of prepare.mask_values are in no mask",
            [meaning.show(each) for each in sorted(meaning.numbers.keys() - survey.renumbered)],
        ),
        *remark_on("guessed", f"masks of images that EXIF turns are taken as {either}", undecided),
        *survey.palettes.check(),
        *([Remark("left out", explain_ignored(share))] if share else []),
    ]


def _remark_on_places(rows: Rows, survey: Survey) -> list[Remark]:
    """Return how boxes and points in images that EXIF turns were counted."""
    text = "images that EXIF turns have boxes or points, which are taken as"
    stored, upright = (np.setdiff1d(survey.truth.turned[key], [*survey.bad]) for key in (True, False))
    return [
        *_remark_on_rows(
            "guessed",
            f"{text} the image is shown, upright; look at artifacts/prepare/sheet.png; ingest.boxes_in: "
            "stored counts the stored pixels",
            rows,
            upright.astype(np.int64),
        ),
        *_remark_on_rows(
            "converted",
            f"{text} the pixels are stored (ingest.boxes_in), and are turned, too",
            rows,
            stored.astype(np.int64),
        ),
    ]


def explain_ignored(share: float) -> str:
    """Return how many pixels of masks do not count, and what to do if they should; empty if all count."""
    if not share:
        return ""
    return (
        f"{share:.1%} of the pixels of the masks are {IGNORED}, which does not count; if it stands for a "
        f"class, name its number: prepare.mask_values: {{{IGNORED}: 1}}"
    )
