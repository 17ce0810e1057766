"""Equal images, found by their unified pixels: they must not be in two splits.

The first rule that applies to a set of equal images decides:

- Some are in the official test split: all of those stay, because an official test split is not changed. The
  others are dropped.
- Their labels differ: all are dropped, because the correct label is unknown.
- Some are in the official validation split: the first of those stays. The others are dropped.
- Otherwise the first one stays whose name is not that of a copy. The others are dropped.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8

from temper.problem import Row

IN_TEST = "the same image is in the official test split"
CONTRADICTION = "the same image has other labels elsewhere"
IN_VALIDATION = "the same image is in the official validation split"
REPEATED = "the same image occurs earlier"
_COPY = re.compile(r"(.*[ _-]copy( ?\(?\d+\)?)?|.*\(\d+\)|copy of .*)\.\w+", re.IGNORECASE | re.DOTALL)
"""Names that systems give to copies of a file."""


class Duplicate(NamedTuple):
    """Why a row is dropped that has an image in common with another row."""

    reason: str
    other: int
    """Number of the other row: the one that stays, or one that contradicts."""


def digest_pixels(images: UInt8[np.ndarray, "rows ..."]) -> list[str]:
    """Return a hexadecimal digest of the pixels of each image."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images]


def find_duplicates(
    rows: Sequence[Row], pixels: Sequence[str] | np.ndarray, truths: Sequence[object] | np.ndarray
) -> dict[int, Duplicate]:
    """Find the rows to drop because they have equal images.

    Args:
        rows: The examples. Only their official splits are read.
        pixels: Digest of the pixels of each example.
        truths: Ground truth of each example, hashable. Equal images with different truths contradict each
            other.

    Returns:
        Number of the row -> why it is dropped.
    """
    dropped: dict[int, Duplicate] = {}
    for numbers in find_equal(np.asarray(pixels)):
        test = [i for i in numbers if rows[i].split == "test"]
        validation = [i for i in numbers if rows[i].split == "validation"]
        if test:
            dropped |= {i: Duplicate(IN_TEST, test[0]) for i in numbers if i not in test}
        elif len({truths[i] for i in numbers}) > 1:
            for i in numbers:
                unlike = next(j for j in numbers if truths[j] != truths[i])
                dropped[i] = Duplicate(CONTRADICTION, unlike)
        else:
            kept = min(validation or numbers, key=lambda i: (_is_copy(rows[i]), i))
            reason = IN_VALIDATION if validation else REPEATED
            dropped |= {
                i: Duplicate(REPEATED if rows[i].split == "validation" else reason, kept)
                for i in numbers
                if i != kept
            }
    return dict(sorted(dropped.items()))


def _is_copy(row: Row) -> bool:
    return _COPY.fullmatch(row.id.rpartition("/")[2]) is not None


def find_equal(keys: np.ndarray) -> Iterator[list[int]]:
    """Yield the numbers of equal keys, in increasing order, for each key that occurs more than once."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    sizes = np.diff(ends, prepend=0)
    for end, size in zip(ends[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        yield order[end - size : end].tolist()
