"""The sources of images, one file per source. Each has a function `fetch(params, project, out) -> list[Row]`.

A source writes a few unmodified raw files to `out`, and describes each image by a row. It does not decode
images: prepare finds out whether an image is usable.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

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
"""`source` in params.yaml -> function that fetches the data."""
LISTED: dict[str, Callable[[Any, Path], Listing]] = {
    "imagefolder": imagefolder.list_rows,
    "table": table.list_rows,
}
"""`source` in params.yaml -> function that lists the user's files without copying them."""
