"""Which part of which image goes where in an image that training sees: crops, random scales and mosaics.

Every random number depends only on the seed and on the number of the draw. A part is a box: top, left, height
and width in pixels of its image. It may reach beyond the image, which then gets a grey border.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from temper.data.loading.params import ViewParams
from temper.maths.geometry import HIDDEN_SHARE
from temper.maths.random import uniform

_TRIES = 8
"""Number of places at which a part is tried until it shows an object, if its image has any."""
_NARROWEST = 0.25
"""Smallest width and height of a part of a mosaic, as a share of the image that it makes."""


@dataclass(frozen=True)
class Parts:
    """The parts of which the images of a batch are made, image by image."""

    owners: Int[Tensor, "parts"]
    """Number in the batch of the image that the part belongs to."""
    rows: Int[Tensor, "parts"]
    """Number of the example that it is taken from."""
    boxes: Int[Tensor, "parts 4"]
    """What is taken, in pixels of that example's image."""
    places: Int[Tensor, "parts 4"]
    """Where it goes, in pixels of the image that is made."""


@dataclass(frozen=True)
class Pool:
    """What is known of the examples from which parts are drawn."""

    sizes: Callable[[Tensor], Tensor]
    """Returns the heights and widths of the images of some examples, [examples, 2]."""
    objects: Callable[[Tensor], Tensor] | None = None
    """Returns the boxes of the objects of some examples, [examples, boxes, 4], left, top, right and bottom as
    shares of the image; those that do not count are 0. None if there are no boxes."""
    shares: Tensor | None = None
    """How often each example is drawn, summed up to it: partners in a mosaic are drawn as often. None if
    there are no mosaics."""


def draw_parts(
    rows: Int[Tensor, "batch"],
    draws: Int[Tensor, "batch"],
    shape: tuple[int, int],
    pool: Pool,
    params: ViewParams,
    *,
    seed: int,
) -> Parts:
    """Draw the parts of the images of a batch: one of each example itself, or four of a mosaic.

    Args:
        rows: Numbers of the examples.
        draws: Number of each draw, counted over the whole training. The parts depend on it.
        shape: Height and width in pixels of the images to make.
        pool: What is known of the examples.
        params: Which views are on.
        seed: Seed of the training.

    Source:
        Mosaics: Bochkovskiy et al. 2020, arXiv:2004.10934, section 3.3.
    """
    tiled = uniform(draws, 1, seed=seed, stream="mosaic")[:, 0] < params.mosaic
    whole = torch.tensor([0, 0, *shape])
    owners = (~tiled).nonzero()[:, 0]
    places = whole.expand(len(owners), 4)
    parts = [_cut(owners, rows[owners], draws[owners], places, shape, pool, params, seed=seed)]
    if tiled.any():
        owners = tiled.nonzero()[:, 0]
        parts.append(_tile(owners, rows[owners], draws[owners], shape, pool, params, seed=seed))
    joined = [torch.cat([getattr(part, name) for part in parts]) for name in Parts.__annotations__]
    order = joined[0].argsort(stable=True)
    return Parts(*(each[order] for each in joined))


def _tile(
    owners: Tensor,
    rows: Tensor,
    draws: Tensor,
    shape: tuple[int, int],
    pool: Pool,
    params: ViewParams,
    *,
    seed: int,
) -> Parts:
    """Return the four parts of each mosaic: of the example itself at the top left, and of three others."""
    assert pool.shares is not None, "a pool for mosaics knows how often examples are drawn"
    chances = uniform(draws, 5, seed=seed, stream="mosaic parts").double()
    others = torch.searchsorted(pool.shares, chances[:, :3] * pool.shares[-1], right=True)
    height, width = shape
    down, right = (
        ((_NARROWEST + (1 - 2 * _NARROWEST) * chances[:, 3 + axis]) * side).round().long()
        for axis, side in enumerate(shape)
    )
    zero = torch.zeros_like(down)
    places = torch.stack(
        [
            torch.stack([zero, zero, down, right], dim=1),
            torch.stack([zero, right, down, width - right], dim=1),
            torch.stack([down, zero, height - down, right], dim=1),
            torch.stack([down, right, height - down, width - right], dim=1),
        ],
        dim=1,
    )
    all_rows = torch.cat([rows[:, None], others], dim=1)
    keys = draws[:, None] * 4 + torch.arange(4)
    each = owners[:, None].expand(-1, 4).flatten(), all_rows.flatten(), keys.flatten(), places.flatten(0, 1)
    return _cut(*each, shape, pool, params, seed=seed, stream="mosaic ")


def _cut(
    owners: Tensor,
    rows: Tensor,
    keys: Tensor,
    places: Tensor,
    shape: tuple[int, int],
    pool: Pool,
    params: ViewParams,
    *,
    seed: int,
    stream: str = "",
) -> Parts:
    """Return a part of each example for its place."""
    sizes = pool.sizes(rows)
    if params.crop_scale is not None:
        sides = _crop_sides(sizes, keys, params, seed=seed, stream=f"{stream}resized crop")
        at = uniform(keys, 2 + 2 * _TRIES, seed=seed, stream=f"{stream}resized crop")[:, 2:].double()
    else:
        share = places[:, 2:] / torch.tensor(shape)
        sides = _scaled_sides(sizes, share, keys, params, seed=seed, stream=f"{stream}scale")
        at = uniform(keys, 1 + 2 * _TRIES, seed=seed, stream=f"{stream}scale")[:, 1:].double()
    room = sizes - sides
    # Beside an image that is smaller than the part, each place is as likely as inside a larger one.
    span = torch.where(room < 0, room - 1, room + 1)[:, None]
    corners = (at.unflatten(1, (_TRIES, 2)) * span).long()
    if pool.objects is None or bool((room == 0).all()):
        corner = corners[:, 0]
    else:
        corner = _first_with_object(corners, sides, sizes, pool.objects(rows))
    return Parts(owners, rows, torch.cat([corner, sides], dim=1), places)


def _crop_sides(
    sizes: Int[Tensor, "batch 2"], keys: Int[Tensor, "batch"], params: ViewParams, *, seed: int, stream: str
) -> Int[Tensor, "batch 2"]:
    """Draw heights and widths of random resized crops, in pixels of each image.

    The share of the area is uniform over `crop_scale`, and the logarithm of width / height is uniform over
    `crop_ratio`. A side that would be longer than the image's side is cut to it (torchvision draws again,
    up to ten times).

    Source:
        Szegedy et al. 2015, arXiv:1409.4842, section 6; torchvision's `RandomResizedCrop`.
    """
    assert params.crop_scale is not None
    chances = uniform(keys, 2, seed=seed, stream=stream).double()
    least, most = params.crop_scale
    area = (least + chances[:, 0] * (most - least)) * sizes.double().prod(dim=1)
    narrow, wide = (math.log(ratio) for ratio in params.crop_ratio)
    ratio = torch.exp(narrow + chances[:, 1] * (wide - narrow))
    sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=1).round().long()
    return torch.minimum(sides.clamp(min=1), sizes)


def _scaled_sides(
    sizes: Int[Tensor, "batch 2"],
    share: Float[Tensor, "batch 2"],
    keys: Int[Tensor, "batch"],
    params: ViewParams,
    *,
    seed: int,
    stream: str,
) -> Int[Tensor, "batch 2"]:
    """Draw heights and widths of parts that fill a share of an image with objects of a random scale.

    The logarithm of the scale is uniform over `scale`; without it, the scale is 1.
    """
    least, most = (math.log(factor) for factor in params.scale or (1.0, 1.0))
    chance = uniform(keys, 1, seed=seed, stream=stream).double()
    factor = torch.exp(least + chance * (most - least))
    return (sizes * share / factor).round().long().clamp(min=1)


def _first_with_object(
    corners: Int[Tensor, "batch tries 2"],
    sides: Int[Tensor, "batch 2"],
    sizes: Int[Tensor, "batch 2"],
    objects: Float[Tensor, "batch boxes 4"],
) -> Int[Tensor, "batch 2"]:
    """Return the first corner from which a part shows enough of an object; the first one if none does."""
    first = corners.flip(2) / sizes.flip(1)[:, None]
    last = first + (sides / sizes).flip(1)[:, None]
    left, right = objects[:, None, :, :2], objects[:, None, :, 2:]
    seen = torch.minimum(right, last[:, :, None]) - torch.maximum(left, first[:, :, None])
    area = (right - left).prod(dim=-1)
    shown = (area > 0) & (seen.clamp(min=0).prod(dim=-1) >= (1 - HIDDEN_SHARE) * area)
    best = shown.any(dim=2).long().argmax(dim=1)
    return corners.gather(1, best[:, None, None].expand(-1, 1, 2))[:, 0]
