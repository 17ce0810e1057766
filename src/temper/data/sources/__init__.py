"""The sources of images, one file per source.

A source that reads the user's files has a function `list_rows(params, project) -> Listing`; the files are
then stored byte for byte in one archive, and masks that it draws in another one. A source that makes or
fetches its data has a function `fetch(params, project, out) -> list[Row]`, which writes a few raw files to
`out`. No source decodes images: prepare finds out whether an image is usable.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from temper.data.images.zip_archive import DRAWN, NAME, write_archive, write_drawn
from temper.data.remark import Remark
from temper.data.sources import (
    coco,
    digits,
    fashion_mnist,
    imagefolder,
    mask_folders,
    table,
    toys,
    tree_crowns,
    voc,
    yolo,
)
from temper.data.sources.listing import Listing
from temper.problem import Row

MADE: dict[str, Callable[[Any, Path, Path], list[Row]]] = {
    "fashion-mnist": fashion_mnist.fetch,
    "digits": digits.fetch,
    "tree-crowns": tree_crowns.fetch,
    "toys": toys.fetch,
}
"""`source` in params.yaml -> function that makes or fetches the data."""
LISTED: dict[str, Callable[[Any, Path], Listing]] = {
    "imagefolder": imagefolder.list_rows,
    "masks": mask_folders.list_rows,
    "table": table.list_rows,
    "voc": voc.list_rows,
    "coco": coco.list_rows,
    "yolo": yolo.list_rows,
}
"""`source` in params.yaml -> function that lists the user's files without copying them."""


def fetch(params: Any, project: Path, out: Path) -> tuple[list[Row], Sequence[Remark]]:
    """Write the raw files of a source to `out`; return its rows, and remarks about them.

    Raises:
        ValueError: If the data cannot be read; names the file and the way out.
    """
    if params.source in MADE:
        return MADE[params.source](params, project, out), ()
    listing = LISTED[params.source](params, project)
    write_archive(listing.names, listing.find, out / NAME)
    if listing.draw is not None:
        write_drawn(listing.drawn, listing.draw, out / DRAWN)
    return listing.rows, listing.remarks
