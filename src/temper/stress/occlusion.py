"""Something stands in front of the subject.

`share` is the share of the image's area that is covered, 0 to 1. Where the cover lies, and its colour, belong to the
image's key and not to the share, so an image's covers at growing shares lie inside one another. Covers are opaque and of
one random colour per image: black alone would be no cover at all on a black background.

Left out: placement on the object or on what the network looks at (they need the truth or gradients).
"""

import math

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from temper.maths.random import hashes, uniform
from temper.stress.image_pool import ImagePool

Images = UInt8[Tensor, "batch channels height width"]
Keys = Int64[Tensor, "batch"]
PERIODS = 3
"""Bars of a grid or of stripes along the image's shorter side."""


def patch(images: Images, keys: Keys, share: float, *, seed: int, pool: ImagePool) -> Images:
    """A rectangle of the image's own shape, at a random place, in one random colour."""
    inside = _rectangles(images, keys, share, seed=seed, stream="patch")
    return _paint(images, inside, keys, seed=seed, stream="patch")


def foreign_patch(images: Images, keys: Keys, share: float, *, seed: int, pool: ImagePool) -> Images:
    """A rectangle from the same place of another image of the pool, never of the image itself.

    Args:
        images: Images of the pool.
        keys: Their numbers in the pool.
        share: Covered share of the area, 0..1.
        seed: Chooses places and donors.
        pool: Where donors come from; which donor depends on the key alone.
    """
    inside = _rectangles(images, keys, share, seed=seed, stream="foreign-patch")
    steps = hashes(keys, 1, seed=seed, stream="foreign-patch donor")[:, 0] % max(len(pool) - 1, 1)
    donors = pool.take((keys + 1 + steps) % len(pool))
    return torch.where(inside[:, None], donors, images)


def grid(images: Images, keys: Keys, share: float, *, seed: int, pool: ImagePool) -> Images:
    """Squares in rows and columns, as of a fence seen from the front; over all offsets they cover `share` on average."""
    rows, columns = _coordinates(images)
    offset = uniform(keys, 2, seed=seed, stream="grid")[:, :, None, None]
    period = min(images.shape[2:]) / PERIODS
    side = math.sqrt(share)
    inside = ((rows / period + offset[:, 0]) % 1.0 < side) & ((columns / period + offset[:, 1]) % 1.0 < side)
    return _paint(images, inside, keys, seed=seed, stream="grid")


def stripes(images: Images, keys: Keys, share: float, *, seed: int, pool: ImagePool) -> Images:
    """Parallel bars in a random direction; over all offsets they cover `share` on average."""
    rows, columns = _coordinates(images)
    # In float64: the last bit of a float32 sine depends on its place in the batch.
    angle, offset = uniform(keys, 2, seed=seed, stream="stripes").double()[:, :, None, None].unbind(1)
    period = min(images.shape[2:]) / PERIODS
    across = rows * torch.sin(angle * math.pi) + columns * torch.cos(angle * math.pi)
    inside = (across / period + offset) % 1.0 < share
    return _paint(images, inside, keys, seed=seed, stream="stripes")


def _rectangles(
    images: Images, keys: Keys, share: float, *, seed: int, stream: str
) -> Bool[Tensor, "batch height width"]:
    """Rectangles of the image's shape that cover `share` of it, each at a random place inside."""
    height, width = images.shape[2:]
    rows, columns = max(1, round(math.sqrt(share) * height)), max(1, round(math.sqrt(share) * width))
    place = uniform(keys, 2, seed=seed, stream=f"{stream} place")
    top = (place[:, :1] * (height - rows + 1)).long()
    left = (place[:, 1:] * (width - columns + 1)).long()
    row, column = torch.arange(height), torch.arange(width)
    down = (row >= top) & (row < top + rows)
    along = (column >= left) & (column < left + columns)
    return down[:, :, None] & along[:, None, :]


def _paint(
    images: Images, inside: Bool[Tensor, "batch height width"], keys: Keys, *, seed: int, stream: str
) -> Images:
    """Cover pixels with one random colour per image."""
    colour = (uniform(keys, images.shape[1], seed=seed, stream=f"{stream} colour") * 256).to(torch.uint8)
    return torch.where(inside[:, None], colour[:, :, None, None], images)


def _coordinates(images: Images) -> tuple[Float32[Tensor, "height 1"], Float32[Tensor, "1 width"]]:
    """Rows and columns of the pixels, counted from 0."""
    height, width = images.shape[2:]
    return torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)[
        None, :
    ]
