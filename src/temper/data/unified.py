"""Every picture of a data set checked and brought to one size and one number of channels, in a file on disk.

Pictures that already lie in an array of the right size are copied whole; the others are decoded by threads (Pillow lets go
of Python's lock while it decodes). Nothing is kept in memory but the chunk at hand.
"""

import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from temper.data.params import PrepareParams
from temper.data.pictures import Store, Unreadable, split_path, unify, unify_mask
from temper.problem import Row
from temper.progress import Bar

_CHUNK = 256
_LISTED = 20
"""Bad pictures that an error message names."""


@dataclass
class Unified:
    """Pictures of all rows, in their order; what lies at the place of a bad one means nothing."""

    images: UInt8[np.ndarray, "rows height width channels"]
    masks: UInt8[np.ndarray, "rows height width"] | None
    bad: dict[int, str] = field(default_factory=dict)
    """Number of the row -> why it cannot be used."""


def unify_all(rows: Sequence[Row], store: Store, params: PrepareParams, work: Path) -> Unified:
    """Check, decode and unify the pictures and masks of all rows into files in `work`."""
    shape = (len(rows), params.height_px, params.width_px)
    colour = params.mode == "colour" or (params.mode == "auto" and _may_have_colour(rows, store))
    images = np.lib.format.open_memmap(work / "images.npy", "w+", np.uint8, (*shape, 3 if colour else 1))
    masks = None
    if any(row.mask for row in rows):
        masks = np.lib.format.open_memmap(work / "masks.npy", "w+", np.uint8, shape)
    unified = Unified(images, masks)
    grey = True
    with Bar("prepare", len(rows)) as bar, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for path in {split_path(path)[0]: path for row in rows for path in (row.path, row.mask) if path}.values():
            store.open(path)
        for start in range(0, len(rows), _CHUNK):
            numbers = range(start, min(start + _CHUNK, len(rows)))
            if not _copy_whole(rows, numbers, store, unified):
                _decode(rows, numbers, store, params, unified, pool)
            grey = grey and (not colour or _is_grey(images[start : numbers.stop]))
            bar.advance(len(numbers))
    if params.mode == "auto" and grey and colour:
        unified.images = images[..., :1]
    return unified


def check_bad_share(rows: Sequence[Row], bad: dict[int, str], max_bad_share: float) -> None:
    """Stop where too many pictures are bad.

    Raises:
        ValueError: Names the first bad ones with their reasons.
    """
    if len(bad) <= max_bad_share * len(rows):
        return
    listed = "; ".join(f"{rows[i].path}: {reason}" for i, reason in sorted(bad.items())[:_LISTED])
    more = f"; and {len(bad) - _LISTED} more" if len(bad) > _LISTED else ""
    raise ValueError(
        f"{len(bad)} of {len(rows)} pictures cannot be used, which is more than prepare.max_bad_share = {max_bad_share:g}: "
        f"{listed}{more}. Mend or remove them, or raise prepare.max_bad_share to go on without them"
    )


def _may_have_colour(rows: Sequence[Row], store: Store) -> bool:
    """Files may; arrays without a channel axis cannot."""
    names = {split_path(row.path)[0] for row in rows}
    return any(not name.endswith((".npy", ".gz")) or store.array(name).ndim > 3 for name in names)


def _copy_whole(rows: Sequence[Row], numbers: range, store: Store, unified: Unified) -> bool:
    """Copy a chunk out of arrays of the right shape in one go; False where it is not so simple."""
    blocks = []
    for target, paths in (
        (unified.images, [rows[i].path for i in numbers]),
        (unified.masks, [rows[i].mask for i in numbers]),
    ):
        if target is None:
            continue
        if None in paths:
            return False
        places = [split_path(path) for path in paths if path is not None]
        names = {name for name, _ in places}
        if len(names) > 1 or not next(iter(names)).endswith((".npy", ".gz")):
            return False
        array = store.array(names.pop())
        pixels = array if array.ndim == target.ndim else array[..., None]
        if pixels.shape[1:] != target.shape[1:]:
            return False
        blocks.append((target, pixels[[int(index) for _, index in places]]))
    for target, pixels in blocks:
        target[numbers.start : numbers.stop] = pixels
    return True


def _decode(
    rows: Sequence[Row],
    numbers: Iterable[int],
    store: Store,
    params: PrepareParams,
    unified: Unified,
    pool: ThreadPoolExecutor,
) -> None:
    limits: dict[str, Any] = {
        name: getattr(params, name) for name in ("height_px", "width_px", "max_pixels", "max_side_px")
    }

    def decode(number: int) -> str | None:
        row = rows[number]
        try:
            picture, size = unify(store.read(row.path), **limits)
            unified.images[number] = _with_channels(picture, unified.images.shape[-1])
            if unified.masks is not None and row.mask is not None:
                unified.masks[number] = unify_mask(store.read(row.mask), size, **limits)
        except Unreadable as error:
            return str(error)
        return None

    numbers = list(numbers)
    for number, reason in zip(numbers, pool.map(decode, numbers), strict=True):
        if reason is not None:
            unified.bad[number] = reason


def _with_channels(picture: np.ndarray, channels: int) -> np.ndarray:
    if picture.ndim == 2:
        return picture[..., None]  # broadcasts over the channels
    if channels == 3:
        return picture
    # Pillow's weights of red, green and blue (ITU-R 601-2), in its integer arithmetic; equal channels stay as they are.
    red, green, blue = (picture[..., i].astype(np.uint32) for i in range(3))
    return ((red * 19595 + green * 38470 + blue * 7471 + 0x8000) >> 16).astype(np.uint8)[..., None]


def _is_grey(images: UInt8[np.ndarray, "rows height width 3"]) -> bool:
    return bool((images[..., 0] == images[..., 1]).all() and (images[..., 1] == images[..., 2]).all())
