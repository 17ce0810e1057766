"""Whole-batch augmentation while training: flip, shift, cutout, mixup, cutmix.

Every number comes from the counter-based generator and depends only on the seed and on the draw's own number, so that a
picture looks the same whatever the number of ranks and wherever a run was resumed. Shift and flip are one gather
over rows and columns; nothing is padded or copied beforehand.
"""

import math

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from temper.data.params import ViewParams
from temper.maths.random import derive, uniform


def shift_and_flip(
    columns: dict[str, Tensor],
    rows: Int[Tensor, "batch"],
    draws: Int[Tensor, "batch"],
    params: ViewParams,
    *,
    seed: int,
    epoch: int,
) -> dict[str, Tensor]:
    """The pictures (and masks) of some rows, shifted by up to `crop_px` with mirrored edges, and flipped in every other epoch.

    Args:
        columns: Whole splits laid out [examples, height, width, ...], which move together.
        rows: Which examples.
        draws: The number of each draw over the whole training; the shift depends on it.
        params: Which views are on.
        seed: Of the training.
        epoch: Flips alternate: an example flipped in one epoch is not in the next (Jordan 2024, arXiv:2404.00498, section 3.6).
    """
    if not (params.crop_px or params.flip):
        return {name: column[rows] for name, column in columns.items()}
    height, width = next(iter(columns.values())).shape[1:3]
    down, right = _shifts(draws, params.crop_px, seed)
    lines = mirror(torch.arange(height) + down[:, None], height)
    across = mirror(torch.arange(width) + right[:, None], width)
    if params.flip:
        across = torch.where(flips(rows, seed=seed, epoch=epoch)[:, None], across.flip(1), across)
    place = (rows[:, None, None], lines[:, :, None], across[:, None, :])
    place = tuple(index.to(next(iter(columns.values())).device) for index in place)  # type: ignore[assignment]
    return {name: column[place] for name, column in columns.items()}


def flips(rows: Int[Tensor, "batch"], *, seed: int, epoch: int) -> Bool[Tensor, "batch"]:
    """Which examples are mirrored in an epoch: half of them in the first one, and always the other half in the next."""
    first = uniform(rows, 1, seed=seed, stream="flip")[:, 0] < 0.5
    return first ^ bool(epoch % 2)


def crop_boxes(
    sizes: Int[Tensor, "batch 2"], draws: Int[Tensor, "batch"], params: ViewParams, *, seed: int
) -> Int[Tensor, "batch 4"]:
    """Random resized crops: a part of each picture as top, left, height, width in its own pixels.

    The share of the area is uniform over `crop_scale`, the logarithm of width / height over `crop_ratio`. A side that would
    be longer than the picture's is cut to it (torchvision draws again, up to ten times). Without `crop_scale`, the whole.

    Args:
        sizes: Heights and widths of the pictures.
        draws: The number of each draw over the whole training; the part depends on it.
        params: Which views are on.
        seed: Of the training.

    Source:
        Szegedy et al. 2015, arXiv:1409.4842, section 6; torchvision's `RandomResizedCrop`.
    """
    if params.crop_scale is None:
        return torch.cat([torch.zeros_like(sizes), sizes], dim=1)
    chances = uniform(draws, 4, seed=seed, stream="resized crop").double()
    least, most = params.crop_scale
    area = (least + chances[:, 0] * (most - least)) * sizes.double().prod(dim=1)
    narrow, wide = (math.log(ratio) for ratio in params.crop_ratio)
    ratio = torch.exp(narrow + chances[:, 1] * (wide - narrow))
    sides = torch.stack([(area / ratio).sqrt(), (area * ratio).sqrt()], dim=1).round().long()
    sides = torch.minimum(sides.clamp(min=1), sizes)
    corners = (chances[:, 2:] * (sizes - sides + 1)).floor().long()
    return torch.cat([corners, sides], dim=1)


def _shifts(draws: Tensor, most_px: int, seed: int) -> tuple[Tensor, Tensor]:
    chances = uniform(draws, 2, seed=seed, stream="crop")
    shifts = (chances * (2 * most_px + 1)).floor().long() - most_px
    return shifts[:, 0], shifts[:, 1]


def mirror(places: Int[Tensor, "*shape"], size: int) -> Int[Tensor, "*shape"]:
    """Places outside 0..size-1 reflected at the edges, as in `torch.nn.functional.pad(mode="reflect")`."""
    period = max(2 * (size - 1), 1)
    folded = places.remainder(period)
    return torch.where(folded < size, folded, period - folded)


def cutout(
    images: UInt8[Tensor, "batch height width channels"],
    draws: Int[Tensor, "batch"],
    side_px: int,
    fill: Tensor,
    *,
    seed: int,
) -> UInt8[Tensor, "batch height width channels"]:
    """Wipe out a square of each picture, whose centre may lie anywhere (DeVries and Taylor 2017, arXiv:1708.04552)."""
    height, width = images.shape[1:3]
    inside = boxes(
        uniform(draws, 2, seed=seed, stream="cutout"), torch.full((len(draws), 2), float(side_px)), height, width
    )
    return torch.where(inside.to(images.device)[..., None], fill.to(images), images)


def boxes(centres: Tensor, sides_px: Tensor, height: int, width: int) -> Tensor:
    """Which pixels lie in a box: centres as shares of height and width, sides in pixels; [batch, height, width]."""
    top, left = centres[:, 0] * height - sides_px[:, 0] / 2, centres[:, 1] * width - sides_px[:, 1] / 2
    lines, across = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    down = (lines >= top[:, None]) & (lines < (top + sides_px[:, 0])[:, None])
    right = (across >= left[:, None]) & (across < (left + sides_px[:, 1])[:, None])
    return down[:, :, None] & right[:, None, :]


def mix_plan(params: ViewParams, step: int, size: int, *, seed: int) -> tuple[str, np.ndarray]:
    """Whether and how a whole batch is mixed: `none`, `mixup` or `cutmix`, and each example's share of itself."""
    kinds = [name for name, alpha in (("mixup", params.mixup), ("cutmix", params.cutmix)) if alpha > 0]
    if not kinds:
        return "none", np.ones(size)
    generator = np.random.default_rng(derive(seed, "mix", step))
    if generator.random() >= params.mix_share:
        return "none", np.ones(size)
    kind = kinds[generator.integers(len(kinds))]
    alpha = params.mixup if kind == "mixup" else params.cutmix
    return kind, generator.beta(alpha, alpha, size)
