"""Whether the masks of a table belong to their images, as far as names show it."""

from collections.abc import Sequence
from pathlib import PurePosixPath

from temper.data.remark import Remark, remark_on
from temper.data.sources.mask_names import bare_name
from temper.problem import Row


def check_pairs(rows: Sequence[Row]) -> list[Remark]:
    """Return which images have a mask that is called like another image.

    Raises:
        ValueError: If the masks are the images themselves.
    """
    pairs = [(row.path, row.mask) for row in rows if row.mask]
    if pairs and all(path == mask for path, mask in pairs):
        raise ValueError(
            "the columns of ingest.path and ingest.mask name the same files; name the masks' own column"
        )
    masks = {_key(mask) for _, mask in pairs}
    images = {_key(path) for path, _ in pairs}
    wrong = [
        f"{path.partition('/')[2]} with {mask.partition('/')[2]}"
        for path, mask in pairs
        if _key(path) != _key(mask) and _key(path) in masks and _key(mask) in images
    ]
    return remark_on("noticed", "images have a mask that is called like another image: do rows fit?", wrong)


def _key(path: str) -> str:
    """Return what the names of an image and its mask have in common."""
    return bare_name(PurePosixPath(path).stem)
