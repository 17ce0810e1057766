"""Raw images in ingest's artifact, read by the path of a row.

The path of a row says where its image is: `images.zip/cat/a.jpg` in an archive, `images.npy#3` or
`images.gz#3` in an array (NumPy or gzipped IDX). Archives and arrays are opened once.
"""

import gzip
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from temper.data.images.idx import parse_idx
from temper.data.images.reading import Raw, Unreadable
from temper.data.images.zip_archive import DRAWN, Archive


class Store:
    """The files of ingest, read by path; every archive and array is opened once.

    Args:
        files: Name -> file.
        find: Returns the file of a member of the archive, if the archive was not written yet; None if it was.
        draw: Returns the content of a member of the archive of drawn masks, in the same case.
    """

    def __init__(
        self,
        files: Mapping[str, Path],
        find: Callable[[str], Path] | None = None,
        draw: Callable[[str], bytes] | None = None,
    ) -> None:
        self._files, self._find, self._draw = files, find, draw
        self._archives: dict[str, Archive] = {}
        self._arrays: dict[str, np.ndarray] = {}

    def __enter__(self) -> "Store":
        return self

    def __exit__(self, *_: object) -> None:
        for archive in self._archives.values():
            archive.close()

    def open(self, path: str) -> None:
        """Open the archive or array of a path, so that several threads may call `read` afterwards."""
        name = split_path(path)[0]
        if name.endswith((".npy", ".gz")):
            self.array(name)
        elif name.endswith(".zip") and name not in self._archives and self._find is None:
            self._archives[name] = Archive(self._files[name])

    def array(self, name: str) -> np.ndarray:
        """Return a whole array of images, uint8 [images, height, width] or [images, height, width, 3]."""
        if name not in self._arrays:
            file = self._files[name]
            self._arrays[name] = (
                parse_idx(gzip.decompress(file.read_bytes()))
                if name.endswith(".gz")
                else np.load(file, mmap_mode="r")
            )
        return self._arrays[name]

    def read(self, path: str) -> Raw:
        """Return one image: the bytes of its file, or its pixels if it is in an array.

        Raises:
            Unreadable: If the file cannot be read, or its archive is damaged.
        """
        name, inner = split_path(path)
        if name.endswith((".npy", ".gz")):
            return self.array(name)[int(inner)]
        if not inner:
            return self._files[name].read_bytes()
        if self._draw is not None and name == DRAWN:
            return self._draw(inner)
        if self._find is not None:
            try:
                return self._find(inner).read_bytes()
            except OSError as error:
                raise Unreadable(f"it cannot be read: {error.strerror}") from error
        try:
            return self._archives[name].read(inner)
        except ValueError as error:
            raise Unreadable(f"damaged in {name}: {error}") from error


def split_path(path: str) -> tuple[str, str]:
    """Split a path into the container and the place in it, which is empty if the file itself is the image."""
    first, _, inner = path.partition("/")
    if first.endswith(".zip") and inner:
        return first, inner
    name, _, index = path.rpartition("#")
    return (name, index) if name.endswith((".npy", ".gz")) else (path, "")
