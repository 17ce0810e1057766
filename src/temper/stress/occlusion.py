"""Conditions that put a cover in front of the subject.

`share` is the share of the image's area that is covered, 0 to 1; with covers on objects, that of each
object's box. The place and the colour of a cover depend on the image's key and not on the share, so an
image's covers of increasing share lie inside one another. Covers are opaque and have one random colour per
image, because black alone would cover nothing on a black background.

Left out: placement on the area that the network uses (needs gradients).
"""

import math

import torch
from jaxtyping import Bool, Float32, Int64, UInt8
from torch import Tensor

from temper.maths.random import hashes, uniform
from temper.stress.pool import Pool, Stressed

Images = UInt8[Tensor, "batch channels height width"]
Keys = Int64[Tensor, "batch"]
PERIODS = 3
"""Number of bars of a grid or of stripes along the image's shorter side."""


def patch(images: Images, keys: Keys, share: float, *, seed: int, pool: Pool) -> Stressed:
    """Cover a rectangle of the image's own shape, at a random place, in one random colour."""
    inside = _rectangles(images, keys, share, seed=seed, stream="patch")
    return _paint(images, inside, keys, seed=seed, stream="patch")


def foreign_patch(images: Images, keys: Keys, share: float, *, seed: int, pool: Pool) -> Stressed:
    """Cover a rectangle with the same place of another image of the pool.

    An image is its own donor only if the pool holds no other.

    Args:
        images: Images of the pool.
        keys: Numbers of the images in the pool.
        share: Covered share of the area, 0..1.
        seed: Seed for places and donors.
        pool: Images from which donors are taken; the donor depends only on the key and the seed.
    """
    inside = _rectangles(images, keys, share, seed=seed, stream="foreign-patch")
    return _lend(images, inside, keys, seed=seed, stream="foreign-patch", pool=pool)


def patch_on_objects(images: Images, keys: Keys, share: float, *, seed: int, pool: Pool) -> Stressed:
    """Cover a rectangle inside each object's box, of the box's shape and at a random place, in one colour.

    What a cover hides of another object that overlaps counts as hidden too.

    Args:
        images: Images of the pool.
        keys: Numbers of the images in the pool.
        share: Covered share of the area of each box, 0..1; of boxes of few pixels, on the average.
        seed: Seed for places and colours.
        pool: Images with the boxes of their objects.
    """
    inside = _on_boxes(images, keys, share, seed=seed, stream="patch-on-objects", pool=pool)
    return _paint(images, inside, keys, seed=seed, stream="patch-on-objects")


def foreign_patch_on_objects(images: Images, keys: Keys, share: float, *, seed: int, pool: Pool) -> Stressed:
    """Cover rectangles as `patch_on_objects` does, with the same places of another image of the pool."""
    inside = _on_boxes(images, keys, share, seed=seed, stream="foreign-patch-on-objects", pool=pool)
    return _lend(images, inside, keys, seed=seed, stream="foreign-patch-on-objects", pool=pool)


def grid(images: Images, keys: Keys, share: float, *, seed: int, pool: Pool) -> Stressed:
    """Cover squares in rows and columns, like a fence seen from the front.

    Averaged over all offsets they cover `share`.
    """
    rows, columns = _coordinates(images)
    offset = uniform(keys, 2, seed=seed, stream="grid")[:, :, None, None]
    period = min(images.shape[2:]) / PERIODS
    side = math.sqrt(share)
    inside = ((rows / period + offset[:, 0]) % 1.0 < side) & ((columns / period + offset[:, 1]) % 1.0 < side)
    return _paint(images, inside, keys, seed=seed, stream="grid")


def stripes(images: Images, keys: Keys, share: float, *, seed: int, pool: Pool) -> Stressed:
    """Cover parallel bars in a random direction; averaged over all offsets they cover `share`."""
    rows, columns = _coordinates(images)
    # In float64: the last bit of a float32 sine depends on the position in the batch.
    angle, offset = uniform(keys, 2, seed=seed, stream="stripes").double()[:, :, None, None].unbind(1)
    period = min(images.shape[2:]) / PERIODS
    across = rows * torch.sin(angle * math.pi) + columns * torch.cos(angle * math.pi)
    inside = (across / period + offset) % 1.0 < share
    return _paint(images, inside, keys, seed=seed, stream="stripes")


def _rectangles(
    images: Images, keys: Keys, share: float, *, seed: int, stream: str
) -> Bool[Tensor, "batch height width"]:
    """Return masks of rectangles of the image's shape that cover `share` of it, each at a random place."""
    height, width = images.shape[2:]
    rows, columns = max(1, round(math.sqrt(share) * height)), max(1, round(math.sqrt(share) * width))
    place = uniform(keys, 2, seed=seed, stream=f"{stream} place")
    top = (place[:, :1] * (height - rows + 1)).long()
    left = (place[:, 1:] * (width - columns + 1)).long()
    row, column = torch.arange(height), torch.arange(width)
    down = (row >= top) & (row < top + rows)
    along = (column >= left) & (column < left + columns)
    return down[:, :, None] & along[:, None, :]


def _on_boxes(
    images: Images, keys: Keys, share: float, *, seed: int, stream: str, pool: Pool
) -> Bool[Tensor, "batch height width"]:
    """Return masks of rectangles of the shape of the objects' boxes, inside them, each at a random place.

    A pixel is covered if its middle is.
    """
    assert pool.boxes is not None, "the condition is for pools with boxes"
    height, width = images.shape[2:]
    boxes = pool.boxes[keys].double() * torch.tensor([width, height, width, height])
    sides = boxes[..., 2:] - boxes[..., :2]
    place = uniform(keys, 2 * boxes.shape[1], seed=seed, stream=f"{stream} place").view_as(sides)
    covered = math.sqrt(share) * sides
    start = boxes[..., :2] + place * (sides - covered)
    left, top, right, bottom = (
        (each - 0.5).ceil().long() for each in (*start.unbind(-1), *(start + covered).unbind(-1))
    )
    # How many covers a pixel is behind: each adds 1 from its first corner on, and takes it back behind it.
    image = torch.arange(len(images))[:, None].expand_as(left)
    counts = torch.zeros(len(images), height + 1, width + 1, dtype=torch.int32)
    for row, column, step in ((top, left, 1), (top, right, -1), (bottom, left, -1), (bottom, right, 1)):
        counts.index_put_((image, row, column), torch.tensor(step, dtype=torch.int32), accumulate=True)
    return counts.cumsum(1).cumsum(2)[:, :height, :width] > 0


def _lend(
    images: Images,
    inside: Bool[Tensor, "batch height width"],
    keys: Keys,
    *,
    seed: int,
    stream: str,
    pool: Pool,
) -> Stressed:
    """Replace the masked pixels by those of another image of the pool."""
    steps = hashes(keys, 1, seed=seed, stream=f"{stream} donor")[:, 0] % max(len(pool) - 1, 1)
    donors = pool.take((keys + 1 + steps) % len(pool))
    return Stressed(torch.where(inside[:, None], donors, images), inside)


def _paint(
    images: Images, inside: Bool[Tensor, "batch height width"], keys: Keys, *, seed: int, stream: str
) -> Stressed:
    """Paint the masked pixels in one random colour per image."""
    colour = (uniform(keys, images.shape[1], seed=seed, stream=f"{stream} colour") * 256).to(torch.uint8)
    return Stressed(torch.where(inside[:, None], colour[:, :, None, None], images), inside)


def _coordinates(images: Images) -> tuple[Float32[Tensor, "height 1"], Float32[Tensor, "1 width"]]:
    """Return the row and column numbers of the pixels, counted from 0."""
    height, width = images.shape[2:]
    return torch.arange(height, dtype=torch.float32)[:, None], torch.arange(width, dtype=torch.float32)[
        None, :
    ]
