"""Decode a sample of the images and masks of a source, to know their sizes, colours and numbers."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from temper.data.images.other_formats import holds_several
from temper.data.images.reading import Unreadable, open_plain
from temper.data.images.store import Store
from temper.data.params import PrepareParams
from temper.data.sources.listing import Listing
from temper.problem import Row
from temper.recipe.mask_numbers import Mask, read_mask_numbers

MOST_SAMPLED = 500
_LEAST_SAMPLED = 50
_SAMPLED_BYTES = 300_000_000
"""Largest total size of the files that are decoded: this takes a minute on two cores."""


@dataclass(frozen=True)
class Seen:
    """Properties of one file."""

    name: str
    size: tuple[int, int] = (0, 0)
    """Height and width in pixels."""
    grey: bool = False
    mask: Mask | None = None
    """Numbers in its mask."""
    hidden: bool = False
    """Whether it is blank on a white background, but not on a black one."""
    several: bool = False
    """Whether the file holds several images."""
    reason: str | None = None
    """Why the file cannot be read; None if it can."""


def sample_files(listing: Listing) -> list[Seen]:
    """Decode some images, evenly spread over the rows; fewer if the files are large."""
    rows, store = listing.rows, Store({}, find=listing.find, draw=listing.draw)
    sizes = [_size(listing.find, row) for row in _spread(rows, _LEAST_SAMPLED)]
    count = int(_SAMPLED_BYTES / max(1.0, sum(sizes) / len(sizes)))
    some = _spread(rows, min(MOST_SAMPLED, max(_LEAST_SAMPLED, count)))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        return list(pool.map(lambda row: _see(store, row), some))


def _spread(rows: Sequence[Row], count: int) -> list[Row]:
    places = np.unique(np.linspace(0, len(rows) - 1, min(len(rows), count)).round().astype(np.int64))
    return [rows[place] for place in places]


def _size(find: Callable[[str], Path], row: Row) -> int:
    try:
        return find(row.path.partition("/")[2]).stat().st_size
    except OSError:
        return 0


def _see(store: Store, row: Row) -> Seen:
    limits = PrepareParams(height_px=8, width_px=8)
    shown = partial(
        open_plain, max_pixels=limits.max_pixels, max_side_px=limits.max_side_px, levels="per-image"
    )
    try:
        raw = store.read(row.path)
        image = shown(raw)
        hidden = _is_blank(image) and not _is_blank(shown(raw, background="black"))
        mask = None if row.mask is None else read_mask_numbers(store, row.mask)
    except Unreadable as error:
        return Seen(row.id, reason=str(error))
    pixels = np.asarray(image)
    grey = pixels.ndim == 2 or bool((pixels[..., :1] == pixels[..., 1:]).all())
    return Seen(row.id, (image.height, image.width), grey, mask, hidden, holds_several(raw))


def _is_blank(image: Image.Image) -> bool:
    pixels = np.asarray(image)
    return bool((pixels == pixels[:1, :1]).all())
