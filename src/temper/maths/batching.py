"""How many examples are in memory at once: bounded by bytes, so that large ones need no more than small."""

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING

from temper.problem import Targets

if TYPE_CHECKING:
    from torch import Tensor

_BYTES = 16 << 20
"""Bytes of the pixels of a batch as float32. Feature maps need a hundred times as much, in each thread."""


def fit_batch(example: Sequence[int], most: int) -> int:
    """Return the number of examples of a batch: `most`, or fewer if they are large, but at least 1.

    Args:
        example: Shape of an example, or the number of its values.
        most: Number for small examples.

    Example:
        >>> fit_batch((28, 28, 1), 512), fit_batch((224, 224, 3), 64), fit_batch((640, 640, 3), 512)
        (512, 27, 3)
    """
    return max(1, min(most, _BYTES // (4 * prod(example))))


def rows_of(targets: Targets, keys: "Tensor | slice") -> Targets:
    """Return some rows of a packed ground truth: floats as float32, integers as int64.

    Masks of a whole split would need eight times as much memory as int64.
    """
    found = {name: column[keys] for name, column in targets.items()}
    return {
        name: value.float() if value.is_floating_point() else value.long() for name, value in found.items()
    }
