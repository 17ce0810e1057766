"""Whole-batch augmentation while training: flip, shift, cutout, mixup, cutmix.

Every number comes from the counter-based generator and depends only on the seed and on the draw's own number, so that a
image looks the same whatever the number of ranks and wherever a run was resumed. Nothing is padded or copied beforehand.
"""

import functools
import math

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from temper.data.params import ViewParams
from temper.maths.random import derive, uniform

_VALUES_AT_ONCE = 1 << 22
"""Values that are moved at once: 32 MiB of places."""


def draw_moves(
    rows: Int[Tensor, "batch"], draws: Int[Tensor, "batch"], params: ViewParams, *, seed: int, epoch: int
) -> Int[Tensor, "batch 2"] | None:
    """How images are shifted, by up to `crop_px`, and whether they are flipped, which alternates; None if never.

    Drawn for many batches at once where that is possible: for one, most of the time goes to the calls.

    Args:
        rows: Which examples.
        draws: The number of each draw over the whole training; the shift depends on it.
        params: Which views are on.
        seed: Of the training.
        epoch: An example flipped in one epoch is not in the next (Jordan 2024, arXiv:2404.00498, section 3.6).

    Returns:
        Rows of numbers that `shift_and_flip` understands.
    """
    if not (params.crop_px or params.flip):
        return None
    chances = uniform(draws, 2, seed=seed, stream="crop")
    moves = (chances * (2 * params.crop_px + 1)).floor().long()
    moves[:, 1] *= 2
    if params.flip:
        moves[:, 1] += flips(rows, seed=seed, epoch=epoch)
    return moves


def shift_and_flip(
    columns: dict[str, Tensor],
    rows: Int[Tensor, "batch"],
    moves: Int[Tensor, "batch 2"] | None,
    params: ViewParams,
) -> dict[str, Tensor]:
    """The images (and masks) of some rows, shifted with mirrored edges, and flipped.

    Whole lines are copied first, as memory, and pixels are exchanged within them: less than a third of the time of one index by all
    three axes. Large images go in parts, since every value needs a place of eight bytes.

    Args:
        columns: Whole splits laid out [examples, height, width, ...], which move together.
        rows: Which examples.
        moves: How, from `draw_moves` with the same `params`.
        params: Which views are on.
    """
    if moves is None:
        return {name: column[rows.to(column.device)] for name, column in columns.items()}
    return {
        name: _move(column, rows.to(column.device), moves.to(column.device), params)
        for name, column in columns.items()
    }


def _move(
    column: Tensor, rows: Int[Tensor, "batch"], moves: Int[Tensor, "batch 2"], params: ViewParams
) -> Tensor:
    height, width, *channels = column.shape[1:]
    down, across = _places(height, width, math.prod(channels), params.crop_px, column.device)
    lines = column.view(-1, across.shape[1] // height)
    size = max(1, _VALUES_AT_ONCE // across.shape[1])
    parts = []
    for some, how in zip(rows.split(size), moves.split(size), strict=True):
        chosen = lines.index_select(0, (some[:, None] * height + down[how[:, 0]]).flatten())
        parts.append(chosen.view(len(some), -1).gather(1, across.index_select(0, how[:, 1])))
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).view(len(rows), *column.shape[1:])


@functools.lru_cache(maxsize=16)
def _places(
    height: int, width: int, channels: int, most_px: int, device: torch.device
) -> tuple[Int[Tensor, "shifts height"], Int[Tensor, "moves pixels"]]:
    """Which line each line comes from under every shift, and which value of its line, within an image, each value under every move."""
    shifts = torch.arange(-most_px, most_px + 1)[:, None]
    down, right = (mirror(torch.arange(size) + shifts, size) for size in (height, width))
    columns = torch.stack([right, right.flip(1)], dim=1).flatten(0, 1)
    values = (columns[:, :, None] * channels + torch.arange(channels)).view(len(columns), 1, -1)
    values = values + (torch.arange(height) * width * channels)[:, None]
    return down.to(device), values.flatten(1).to(device)


def flips(rows: Int[Tensor, "batch"], *, seed: int, epoch: int) -> Bool[Tensor, "batch"]:
    """Which examples are mirrored in an epoch: half of them in the first one, and always the other half in the next."""
    first = uniform(rows, 1, seed=seed, stream="flip")[:, 0] < 0.5
    return first ^ bool(epoch % 2)


def crop_boxes(
    sizes: Int[Tensor, "batch 2"], draws: Int[Tensor, "batch"], params: ViewParams, *, seed: int
) -> Int[Tensor, "batch 4"]:
    """Random resized crops: a part of each image as top, left, height, width in its own pixels.

    The share of the area is uniform over `crop_scale`, the logarithm of width / height over `crop_ratio`. A side that would
    be longer than the image's is cut to it (torchvision draws again, up to ten times). Without `crop_scale`, the whole.

    Args:
        sizes: Heights and widths of the images.
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
    """Wipe out a square of each image, whose centre may lie anywhere (DeVries and Taylor 2017, arXiv:1708.04552)."""
    height, width = images.shape[1:3]
    inside = boxes(
        uniform(draws, 2, seed=seed, stream="cutout"),
        torch.full((len(draws), 2), float(side_px)),
        height,
        width,
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
