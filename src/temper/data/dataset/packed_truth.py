"""Ground truth of all rows, packed by the problem while the images are looked over."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from temper.data.counted import counted_frame, is_stored
from temper.data.images.mask_values import IGNORED
from temper.fields import Frame, by_layout
from temper.maths.geometry import within_borders
from temper.problem import Problem, Row


class PackedTruth:
    """Ground truth of all rows: columns in files in the folder `work`, and each row's strata and digest."""

    def __init__(self, problem: Problem, num_rows: int, work: Path) -> None:
        self.columns: dict[str, np.ndarray] = {}
        self.strata: list[frozenset[str]] = [frozenset()] * num_rows
        self.digests = np.zeros(num_rows, "S32")
        self._pixels = self._ignored = 0
        self.only_ignored: list[int] = []
        """Numbers of the rows whose maps show one class, and pixels that do not count."""
        self.turned: dict[bool, list[int]] = {False: [], True: []}
        """Whether places are counted as pixels are stored -> numbers of the rows with places whose image EXIF
        turns."""
        self._problem, self._work = problem, work
        self._has_places = bool(by_layout(problem.truth, "boxes", "points"))
        self._known: dict[frozenset[str], frozenset[str]] = {}

    @property
    def ignored_share(self) -> float:
        """Share of the pixels of all masks that do not count."""
        return self._ignored / self._pixels if self._pixels else 0.0

    def pack(
        self, number: int, row: Row, images: Mapping[str, np.ndarray], frame: Frame, *, orientation: int = 1
    ) -> None:
        """Store the ground truth of a row as the problem packs it.

        Args:
            number: Number of the row.
            row: The row.
            images: Its unified image and mask.
            frame: Where the unified image lies in the upright one.
            orientation: EXIF orientation of the image as it is stored; 0 or 1 if it is upright.

        Raises:
            ValueError: If the problem rejects the row, or its places are those of an image of another size.
        """
        if self._has_places:
            frame = counted_frame(frame, row.truth, orientation)
            if orientation > 1:
                self.turned[is_stored(row.truth)].append(number)
        columns = self._problem.pack(row, images, frame)
        strata = self._problem.strata(columns)
        self.strata[number] = self._known.setdefault(strata, strata)
        sha = hashlib.blake2b(digest_size=16)
        for name in sorted(columns):
            value = np.asarray(columns[name])
            if name not in self.columns:
                shape = (len(self.strata), *value.shape)
                memory = np.lib.format.open_memmap(self._work / f"truth-{name}.npy", "w+", value.dtype, shape)
                self.columns[name] = np.asarray(memory)  # a plain view, because indexing a memmap is slow
            self.columns[name][number] = value
            if name in by_layout(self._problem.truth, "map"):
                counted = value[within_borders(frame, *value.shape)]
                ignored = int((counted == IGNORED).sum())
                self._pixels += counted.size
                self._ignored += ignored
                if ignored and len(strata) == 1:
                    self.only_ignored.append(number)
            sha.update(value.tobytes())
        self.digests[number] = sha.hexdigest()
