"""Where images come from, one file a source; each has `fetch(params, project, out) -> list[Row]`.

A source writes raw files into `out`, unmodified and few, and describes each image by a row. It decodes nothing:
whether an image is any good is for prepare to find out.
"""

from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import Any

from temper.data.params import AnySource, ImageFolder, Table
from temper.data.sources import digits, fashion_mnist, imagefolder, table, toys
from temper.data.sources.listing import Listing
from temper.problem import Row

SOURCES: dict[str, Callable[[Any, Path, Path], list[Row]]] = {
    "fashion-mnist": fashion_mnist.fetch,
    "digits": digits.fetch,
    "imagefolder": imagefolder.fetch,
    "table": table.fetch,
    "toys": toys.fetch,
}
"""`source` in params.yaml -> what fetches it."""
LISTED: dict[str, Callable[[Any, Path], Listing]] = {
    "imagefolder": imagefolder.list_rows,
    "table": table.list_rows,
}
"""`source` -> what finds its files where the user keeps them, without copying any."""


def find_origin(params: AnySource) -> str | None:
    """The user's own folder, as params.yaml names it, below which a row's id is the path of its image; None without one."""
    if isinstance(params, ImageFolder):
        return params.folder
    return str(PurePosixPath(params.file).parent) if isinstance(params, Table) else None
