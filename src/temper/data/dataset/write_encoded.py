"""The second pass over the images, split by split: training images are stored encoded, the others unified."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from temper.data.dataset.packed import write_array
from temper.data.dataset.resize import CHUNK, unify_chunks
from temper.data.dataset.rows import Rows
from temper.data.dataset.scan import Survey
from temper.data.images.encoded import EncodedWriter, encode
from temper.data.images.reading import Raw, open_plain
from temper.data.images.store import Store
from temper.data.params import PrepareParams
from temper.progress import Bar


def keep_encoded(
    rows: Rows, numbers: np.ndarray, store: Store, survey: Survey, params: PrepareParams, folder: Path
) -> None:
    """Write the images of some rows: unchanged if training can read them, otherwise encoded again.

    Args:
        rows: All rows.
        numbers: Numbers of the rows to write, in this order.
        store: Files with their images.
        survey: Results of the first pass.
        params: Limits, and the size to which large images are shrunk.
        folder: Folder to create.
    """

    def content_of(raw: Raw, plain: bool, height: int, width: int) -> tuple[bytes, tuple[int, int]]:
        lossy = not isinstance(raw, np.ndarray) and raw[:2] == b"\xff\xd8"
        if plain and isinstance(raw, bytes):
            return raw, (height, width)
        limits = {"max_pixels": params.max_pixels, "max_side_px": params.max_side_px}
        image = open_plain(raw, **limits, levels=params.levels, background=params.background)
        return encode(
            image, lossy=lossy and max(image.size) > params.shrink_px > 0, shrink_px=params.shrink_px
        )

    chosen = np.asarray(numbers)
    with (
        EncodedWriter(folder) as writer,
        Bar("prepare", len(chosen)) as bar,
        ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool,
    ):
        for start in range(0, len(chosen), CHUNK):
            some = chosen[start : start + CHUNK]
            raws = [store.read(row.path) for row in rows.take(some)]
            sizes = survey.sizes[some]
            for content, size in pool.map(content_of, raws, survey.plain[some], *sizes.T.tolist()):
                writer.add(content, size)
            bar.advance(len(some))


def write_unified(
    rows: Rows, numbers: np.ndarray, store: Store, survey: Survey, params: PrepareParams, path: Path
) -> None:
    """Write the unified images of some rows, in this order, as an array."""

    def images() -> Iterator[np.ndarray]:
        some = rows.take(numbers)
        for chunk in unify_chunks(some, store, params, channels=survey.channels, masks=False):
            assert not chunk.bad, f"images that the first pass could read: {chunk.bad}"
            yield chunk.images

    shape = (len(numbers), params.height_px, params.width_px, survey.channels)
    write_array(path, images(), shape, np.dtype(np.uint8))
