"""Equal images, found by their pixels after unifying: they must not stand on both sides of a split.

What a careful person would do with each set of equal images:

- some are in the official test split: those stay, all of them, since an official test split stays what it is; the others go;
- they are labelled differently: all go, since nobody knows which is right;
- some are in the official validation split: the first of those stays, the others go;
- else the first stays, the others go.
"""

import hashlib
from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import UInt8

from temper.problem import Row

IN_TEST = "the same image is in the official test split"
CONTRADICTION = "the same image carries other labels elsewhere"
IN_VALIDATION = "the same image is in the official validation split"
REPEATED = "the same image comes earlier"


def digest_pixels(images: UInt8[np.ndarray, "rows ..."]) -> list[str]:
    """A digest of each image's pixels, in hexadecimal."""
    return [hashlib.blake2b(image.tobytes(), digest_size=16).hexdigest() for image in images]


def find_duplicates(
    rows: Sequence[Row], pixels: Sequence[str] | np.ndarray, truths: Sequence[object] | np.ndarray
) -> dict[int, str]:
    """Which rows must go because an equal image stays, and why.

    Args:
        rows: The examples; only their official splits are looked at.
        pixels: Digest of each example's image.
        truths: What is true of each example, hashable: equal images with unequal truths contradict each
            other.

    Returns:
        Number of the row -> reason, as on the list of dropped ones.
    """
    dropped: dict[int, str] = {}
    for numbers in _equal(np.asarray(pixels)):
        test = [i for i in numbers if rows[i].split == "test"]
        validation = [i for i in numbers if rows[i].split == "validation"]
        if test:
            dropped |= {i: IN_TEST for i in numbers if i not in test}
        elif len({truths[i] for i in numbers}) > 1:
            dropped |= dict.fromkeys(numbers, CONTRADICTION)
        else:
            kept = (validation or numbers)[0]
            reason = IN_VALIDATION if validation else REPEATED
            dropped |= {
                i: REPEATED if rows[i].split == "validation" else reason for i in numbers if i != kept
            }
    return dict(sorted(dropped.items()))


def _equal(keys: np.ndarray) -> Iterator[list[int]]:
    """Numbers of the equal keys, rising, for each key that occurs more than once."""
    order = np.argsort(keys, kind="stable")
    ordered = keys[order]
    ends = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True)) + 1
    sizes = np.diff(ends, prepend=0)
    for end, size in zip(ends[sizes > 1].tolist(), sizes[sizes > 1].tolist(), strict=True):
        yield order[end - size : end].tolist()
