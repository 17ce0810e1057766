"""Augmentation of whole batches during training: flip, shift, cutout, mixup, CutMix.

Every random number depends only on the seed and on the number of the draw, the example or the step. It comes
from the counter-based generator, or for mixing from a generator that is seeded for each step. So an image
looks the same for any number of ranks, and in a resumed run. Nothing is padded or copied beforehand.
"""

import functools
import math

import numpy as np
import torch
from jaxtyping import Bool, Int, UInt8
from torch import Tensor

from temper.data.loading.params import ViewParams
from temper.maths.random import derive, uniform

_VALUES_AT_ONCE = 1 << 22
"""Number of values that are moved at once: 32 MiB of indices."""


def draw_moves(
    rows: Int[Tensor, "batch"], draws: Int[Tensor, "batch"], params: ViewParams, *, seed: int, epoch: int
) -> Int[Tensor, "batch 2"] | None:
    """Draw the shift of each image, by up to `crop_px`, and whether it is flipped.

    Draw many batches at once if possible: with one batch, most of the time is spent on the calls.

    Args:
        rows: Numbers of the examples.
        draws: Number of each draw, counted over the whole training. The shift depends on it.
        params: Which views are on.
        seed: Seed of the training.
        epoch: Number of the epoch. An example that is flipped in one epoch is not flipped in the next
            (Jordan 2024, arXiv:2404.00498, section 3.6).

    Returns:
        Moves for `shift_and_flip`: vertical shift, and twice the horizontal shift plus 1 for a flip, both
        shifts counted from -`crop_px`. None if both views are off.
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
    """Return the images (and masks) of some rows, shifted with mirrored edges and flipped.

    Whole lines are copied first, as blocks of memory, and then pixels are moved within the lines. This
    takes less than a third of the time of indexing by all three axes. Large images are moved in parts,
    because every value needs an index of eight bytes.

    Args:
        columns: Columns of a split, [examples, height, width, ...], that move together. All frames of a clip,
            [examples, frames, height, width, channels], move in the same way.
        rows: Numbers of the examples.
        moves: Moves from `draw_moves` with the same `params`.
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
    if column.dim() == 5:
        frames = column.shape[1]
        each = (rows[:, None] * frames + torch.arange(frames, device=rows.device)).flatten()
        moved = _move(column.flatten(0, 1), each, moves.repeat_interleave(frames, dim=0), params)
        return moved.unflatten(0, (-1, frames))
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
    """Return the indices of the source of each line for every shift, and of each value for every move.

    The source of a line is a line of the image. The source of a value is a value of the image whose lines are
    already shifted.
    """
    shifts = torch.arange(-most_px, most_px + 1)[:, None]
    down, right = (mirror(torch.arange(size) + shifts, size) for size in (height, width))
    columns = torch.stack([right, right.flip(1)], dim=1).flatten(0, 1)
    values = (columns[:, :, None] * channels + torch.arange(channels)).view(len(columns), 1, -1)
    values = values + (torch.arange(height) * width * channels)[:, None]
    return down.to(device), values.flatten(1).to(device)


def flips(rows: Int[Tensor, "batch"], *, seed: int, epoch: int) -> Bool[Tensor, "batch"]:
    """Return which examples are mirrored: a random half of them in even epochs, the others in odd epochs."""
    first = uniform(rows, 1, seed=seed, stream="flip")[:, 0] < 0.5
    return first ^ bool(epoch % 2)


def mirror(places: Int[Tensor, "*shape"], size: int) -> Int[Tensor, "*shape"]:
    """Reflect indices outside 0..size-1 at the edges, as `torch.nn.functional.pad(mode="reflect")` does."""
    period = max(2 * (size - 1), 1)
    folded = places.remainder(period)
    return torch.where(folded < size, folded, period - folded)


def cutout(
    images: UInt8[Tensor, "batch *frames height width channels"],
    draws: Int[Tensor, "batch"],
    side_px: int,
    fill: Tensor,
    *,
    seed: int,
) -> tuple[UInt8[Tensor, "batch *frames height width channels"], Bool[Tensor, "batch height width"]]:
    """Fill a square at a random place of each image (DeVries and Taylor 2017, arXiv:1708.04552).

    The centre of the square may be anywhere in the image. In all frames of a clip it is at the same place.

    Returns:
        The images, and which pixels were filled.
    """
    height, width = images.shape[-3:-1]
    inside = boxes(
        uniform(draws, 2, seed=seed, stream="cutout"),
        torch.full((len(draws), 2), float(side_px)),
        height,
        width,
    )
    inside = inside.to(images.device)
    return torch.where(over_frames(inside, images), fill.to(images), images), inside


def over_frames(inside: Bool[Tensor, "batch height width"], column: Tensor) -> Bool[Tensor, "batch ..."]:
    """Return which pixels are meant in a shape that fits a column: a map, images, or all frames of clips."""
    if column.dim() == 5:
        inside = inside[:, None]
    return inside.view(*inside.shape, *(1,) * (column.dim() - inside.dim()))


def boxes(centres: Tensor, sides_px: Tensor, height: int, width: int) -> Tensor:
    """Return which pixels are inside the box of each image, bool [batch, height, width].

    Args:
        centres: Centres of the boxes as shares of height and width, [batch, 2].
        sides_px: Heights and widths of the boxes in pixels, [batch, 2].
        height: Height of the images in pixels.
        width: Width of the images in pixels.
    """
    top, left = centres[:, 0] * height - sides_px[:, 0] / 2, centres[:, 1] * width - sides_px[:, 1] / 2
    lines, across = torch.arange(height) + 0.5, torch.arange(width) + 0.5
    down = (lines >= top[:, None]) & (lines < (top + sides_px[:, 0])[:, None])
    right = (across >= left[:, None]) & (across < (left + sides_px[:, 1])[:, None])
    return down[:, :, None] & right[:, None, :]


def mix_plan(params: ViewParams, step: int, size: int, *, seed: int) -> tuple[str, np.ndarray]:
    """Draw how a batch is mixed (`none`, `mixup` or `cutmix`), and the share that each example keeps."""
    kinds = [name for name, alpha in (("mixup", params.mixup), ("cutmix", params.cutmix)) if alpha > 0]
    if not kinds:
        return "none", np.ones(size)
    generator = np.random.default_rng(derive(seed, "mix", step))
    if generator.random() >= params.mix_share:
        return "none", np.ones(size)
    kind = kinds[generator.integers(len(kinds))]
    alpha = params.mixup if kind == "mixup" else params.cutmix
    return kind, generator.beta(alpha, alpha, size)
