"""Choose a network by the image size: pure tables, used both for timing candidates and for choosing."""

import math
from dataclasses import dataclass
from typing import Any

SMALL_PX = 40
"""Short sides up to which no detail is discarded early: no early stride, and images keep their size."""
WEIGHTS_PX = 64
"""Short sides from which pretrained weights help, since their filters were learned on larger images."""
_STUDENT = {3: (24, 48, 64), 4: (16, 32, 48, 64), 5: (16, 32, 48, 64, 96)}
"""Channels by number of stages. The student has about 130 kB in int8; in first trials it came within a point
of its teacher."""
_TEACHER = {3: (48, 96, 128), 4: (32, 64, 96, 128), 5: (32, 64, 96, 128, 192)}
"""Channels by number of stages, about twice those of the student."""
_SMALL_STUDENT = {1: (32,), 2: (32, 64), 3: (32, 48, 64)}
_SMALL_TEACHER = {1: (64,), 2: (48, 128), 3: (48, 64, 128)}
"""Channels by number of stages for small images, as in the default project, which is tuned."""
_LAST_CELLS, _LAST_CELLS_SMALL = 8.0, 3.5
"""The last maps are 4 to 8 cells wide. With fewer cells, each cell sees the whole image; with more, they cost
time and each sees too little of it. Small images are halved as long as about 4 cells are left."""


@dataclass(frozen=True)
class Available:
    """Pretrained weights that are on this machine."""

    backbone: str
    """Name of the backbone in timm."""
    weights: str
    """Reference to the weights, as in `transfer.weights`."""


def count_stages(short_px: int) -> int:
    """Return the number of stages after which the short side has about 4 to 8 cells; each stage halves it.

    Example:
        >>> [count_stages(side) for side in (8, 16, 28, 32, 48, 64, 96, 128, 160)]
        [1, 2, 3, 3, 3, 3, 4, 4, 5]
    """
    if short_px <= SMALL_PX:
        return max(1, math.floor(math.log2(short_px / _LAST_CELLS_SMALL)))
    return min(math.ceil(math.log2(short_px / _LAST_CELLS)), max(_STUDENT))


def plain_backbone(short_px: int, *, teacher: bool) -> dict[str, Any]:
    """Return a small-vgg as params.yaml has it."""
    stages = count_stages(short_px)
    if short_px <= SMALL_PX:
        widths = (_SMALL_TEACHER if teacher else _SMALL_STUDENT)[stages]
        return {"family": "small-vgg", "widths": list(widths), "depths": [2] * stages}
    widths = (_TEACHER if teacher else _STUDENT)[stages]
    stem = {"channels": 32 if teacher else 24, "size_px": 5, "stride": 2}
    return {"family": "small-vgg", "stem": stem, "widths": list(widths), "depths": [1] + [2] * (stages - 1)}


def pretrained_backbone(available: Available) -> dict[str, Any]:
    """Return a backbone of timm as params.yaml has it."""
    return {"family": "timm", "name": available.backbone, "head_layers": True}
