"""Checking all images of a dataset and bringing them to one size and number of channels, chunk by chunk.

Images that are already in an array of the right size are copied together. Threads decode the others, because
Pillow releases Python's lock during decoding. Only the current chunk is in memory.
"""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Bool, Int32, UInt8

from temper.data.images.doubts import doubt_image, doubt_mask
from temper.data.images.encoded import reads_the_same
from temper.data.images.mask_levels import ColourMask, Counts
from temper.data.images.mask_values import AS_WRITTEN, Meaning
from temper.data.images.masks import MaskRules, is_swapped, read_mask, resize_mask
from temper.data.images.orientation import turned
from temper.data.images.palettes import Palette, read_palette
from temper.data.images.reading import Unreadable, fit_channels, notes_on, open_plain, resize, was_wide
from temper.data.images.store import Store, split_path
from temper.data.params import PrepareParams
from temper.data.remark import Note
from temper.fields import Frame
from temper.maths.geometry import frame_of
from temper.problem import Row
from temper.progress import Bar

CHUNK = 256
_LISTED, _EXAMPLES = 10, 3
"""Numbers of reasons, and of images for each, that an error message lists."""


@dataclass
class Chunk:
    """Unified images of some rows. The pixels of a bad image are meaningless."""

    numbers: range
    """Numbers of the rows, counted from the first row of the dataset."""
    images: UInt8[np.ndarray, "rows height width channels"]
    masks: UInt8[np.ndarray, "rows height width"] | None
    sizes: Int32[np.ndarray, "rows 2"]
    """Height and width before unifying."""
    frames: list[Frame]
    """Where each unified image lies in the image of its file."""
    plain: Bool[np.ndarray, "rows"]
    """Whether training may decode the unchanged file; False if this was not checked."""
    coloured: Bool[np.ndarray, "rows"]
    """Whether an image has colour that unifying removed."""
    orientations: UInt8[np.ndarray, "rows"]
    """EXIF orientation of each image as it is stored; 0 if it was not decoded."""
    swapped: Bool[np.ndarray, "rows"]
    """Whether the sides of a mask are those of its turned image, swapped."""
    palettes: dict[int, Palette] = field(default_factory=dict)
    """Number of the row -> palette of its mask, if it has one and palettes are compared."""
    wide: set[int] = field(default_factory=set)
    """Numbers of the rows whose files have more than 8 bits."""
    notes: dict[int, list[Note]] = field(default_factory=dict)
    """Number of the row -> what was changed in its image, or is doubtful about it, if anything is."""
    renumbered: set[int] = field(default_factory=set)
    """Numbers or colours of `prepare.mask_values` that were found in masks."""
    unnamed: dict[int, Counts] = field(default_factory=dict)
    """Number of the row -> colours of its mask, if they have no class."""
    bad: dict[int, str] = field(default_factory=dict)
    """Number of the row -> why it cannot be used."""


def has_masks(rows: Sequence[Row]) -> bool:
    """Return whether any row has a mask."""
    return any(row.mask for row in rows)


def count_channels(rows: Sequence[Row], store: Store, params: PrepareParams) -> int:
    """Return the number of channels for unifying: 1 if colour is impossible or unwanted, otherwise 3.

    With 3, only the decoded images show whether there is any colour.
    """
    return 3 if params.mode == "colour" or (params.mode == "auto" and _may_have_colour(rows, store)) else 1


def unify_chunks(
    rows: Sequence[Row],
    store: Store,
    params: PrepareParams,
    *,
    channels: int,
    masks: bool,
    meaning: Meaning = AS_WRITTEN,
    check_plain: bool = False,
) -> Iterator[Chunk]:
    """Check, decode and unify the images and masks of all rows, in order.

    Args:
        rows: The examples.
        store: Files with their images.
        params: Size of the unified images, and limits.
        channels: Number of channels of the unified images, 1 or 3.
        masks: Whether there are masks.
        meaning: What the numbers or colours in masks mean.
        check_plain: Whether to check that training may decode the unchanged files. This costs a second
            decoding.
    """
    shape = (params.height_px, params.width_px)
    with Bar("prepare", len(rows)) as bar, ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for start in range(0, len(rows), CHUNK):
            some = list(rows[start : start + CHUNK])
            chunk = Chunk(
                range(start, start + len(some)),
                np.zeros((len(some), *shape, channels), np.uint8),
                np.zeros((len(some), *shape), np.uint8) if masks else None,
                np.zeros((len(some), 2), np.int32),
                [Frame(*shape)] * len(some),
                np.zeros(len(some), bool),
                np.zeros(len(some), bool),
                np.zeros(len(some), np.uint8),
                np.zeros(len(some), bool),
            )
            for name in {
                split_path(path)[0]: path for row in some for path in (row.path, row.mask) if path
            }.values():
                store.open(name)
            if not _copy_whole(some, store, chunk):
                _decode(some, store, params, chunk, pool, meaning, check_plain)
            yield chunk
            bar.advance(len(some))


def check_bad_share(rows: Sequence[Row], bad: dict[int, str], max_bad_share: float) -> None:
    """Stop if too many images are bad.

    Raises:
        ValueError: If their share is too large; the message lists the first bad images and their reasons.
    """
    if len(bad) <= max_bad_share * len(rows):
        return
    by_reason: dict[str, list[str]] = {}
    for number, reason in sorted(bad.items()):
        common = reason.replace(rows[number].mask or "\n", "its mask")
        by_reason.setdefault(common, []).append(rows[number].path)
    listed = "; ".join(
        f"{', '.join(paths[:_EXAMPLES])}"
        f"{f' and {len(paths) - _EXAMPLES} more' if len(paths) > _EXAMPLES else ''}: {reason}"
        for reason, paths in list(by_reason.items())[:_LISTED]
    )
    more = f"; and {len(by_reason) - _LISTED} more reasons" if len(by_reason) > _LISTED else ""
    raise ValueError(
        f"{len(bad)} of {len(rows)} images cannot be used, which is more than prepare.max_bad_share = "
        f"{max_bad_share:g}: {listed}{more}. Repair or remove them, "
        "or raise prepare.max_bad_share to continue without them"
    )


def find_grey(images: UInt8[np.ndarray, "rows height width channels"]) -> Bool[np.ndarray, "rows"]:
    """Return of each image whether all channels are equal in every pixel."""
    return (images[..., :1] == images[..., 1:]).all(axis=(1, 2, 3))


def _may_have_colour(rows: Sequence[Row], store: Store) -> bool:
    """Return whether images may have colour: files may, arrays without a channel axis cannot."""
    names = {split_path(row.path)[0] for row in rows}
    return any(not name.endswith((".npy", ".gz")) or store.array(name).ndim > 3 for name in names)


def _copy_whole(rows: Sequence[Row], store: Store, chunk: Chunk) -> bool:
    """Copy a chunk from an array of the right shape in one operation; return False if that is impossible."""
    blocks = []
    for target, paths in (
        (chunk.images, [row.path for row in rows]),
        (chunk.masks, [row.mask for row in rows]),
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
        target[:] = pixels
    chunk.sizes[:] = chunk.images.shape[1:3]
    return True


def _decode(
    rows: Sequence[Row],
    store: Store,
    params: PrepareParams,
    chunk: Chunk,
    pool: ThreadPoolExecutor,
    meaning: Meaning,
    check_plain: bool,
) -> None:
    limits: dict[str, Any] = {name: getattr(params, name) for name in ("max_pixels", "max_side_px")}
    shape: dict[str, Any] = {name: getattr(params, name) for name in ("height_px", "width_px", "fit")}
    rules = MaskRules(meaning, chunk.renumbered, stored=params.mask_orientation == "stored")

    def decode(place: int) -> str | None:
        row = rows[place]
        try:
            raw = store.read(row.path)
            image = open_plain(raw, **limits, levels=params.levels, background=params.background)
            pixels = resize(image, **shape, max_pixels=params.max_pixels)
            chunk.images[place] = fit_channels(pixels, chunk.images.shape[-1])
            became_grey = chunk.images.shape[-1] < 3 and pixels.ndim == 3
            chunk.coloured[place] = became_grey and not find_grey(pixels[None])[0]
            chunk.sizes[place] = image.height, image.width
            chunk.orientations[place] = turned(image)
            chunk.frames[place] = frame_of(image.height, image.width, chunk.images.shape[1:3], params.fit)
            notes = [*notes_on(image), *doubt_image(raw, image, row.path)]
            if was_wide(image):
                chunk.wide.add(chunk.numbers[place])
            if check_plain:
                chunk.plain[place] = reads_the_same(raw, image)
            if chunk.masks is not None and row.mask is not None:
                mask = store.read(row.mask)
                chunk.swapped[place] = turned(image) > 1 and is_swapped(mask, image.size)
                compared = params.mask_palettes == "compare" and not meaning.colours
                palette = read_palette(mask) if compared else None
                if palette is not None:
                    chunk.palettes[chunk.numbers[place]] = palette
                numbers = read_mask(mask, image.size, orientation=turned(image), rules=rules, **limits)
                chunk.masks[place] = resize_mask(numbers, **shape)
                notes += doubt_mask(mask, numbers, chunk.masks[place])
            if notes:
                chunk.notes[chunk.numbers[place]] = notes
        except Unreadable as error:
            if isinstance(error, ColourMask):
                chunk.unnamed[chunk.numbers[place]] = error.counts
            return str(error)
        return None

    for number, reason in zip(chunk.numbers, pool.map(decode, range(len(rows))), strict=True):
        if reason is not None:
            chunk.bad[number] = reason
