"""Heat maps: a logit for each cell of a grid over the image, and the offset of a place from its centre.

Places are shares of the image's width and height, [..., 2] across and down. A grid has [height, width] cells.

Source:
    Heat map and offset: Papandreou et al. 2017, arXiv:1701.01779, section 3.2, here with a softmax over the
    cells, since each point is in one place.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

_SPREAD = 0.7
"""Standard deviation of the truth, in cells: the cell of a point and its neighbours may show it."""


def centres(height: int, width: int, like: Tensor) -> Float[Tensor, "cells 2"]:
    """Return the centres of all cells in cells, across and down, row by row."""
    down, across = (
        torch.arange(size, dtype=like.dtype, device=like.device) + 0.5 for size in (height, width)
    )
    return torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], dim=-1).flatten(0, 1)


def point_loss(
    heat: Float[Tensor, "batch points height width"],
    offset: Float[Tensor, "batch points 2 height width"],
    places: Float[Tensor, "batch points 2"],
) -> Float[Tensor, "batch points"]:
    """Return how far heat maps and offsets are from the true places of points, in nats, 0 at best.

    It is the Kullback-Leibler divergence of the heat map from a narrow bell round the true place, and the
    Huber penalty of the offsets, in cells, weighted with that bell.
    """
    height, width = heat.shape[-2:]
    true = places * places.new_tensor([width, height])
    apart = true[:, :, None] - centres(height, width, true)
    log_share = functional.log_softmax(-apart.square().sum(dim=-1) / (2 * _SPREAD**2), dim=-1)
    share = log_share.exp()
    found = functional.log_softmax(heat.float().flatten(2), dim=-1)
    errors = (offset.float().flatten(3).transpose(2, 3) - apart).abs()
    penalty = torch.where(errors <= 1, 0.5 * errors.square(), errors - 0.5).sum(dim=-1)
    return (share * (log_share - found)).sum(dim=-1) + (share * penalty).sum(dim=-1)


def read_points(
    heat: Float[Tensor, "batch points height width"], offset: Float[Tensor, "batch points 2 height width"]
) -> tuple[Float[Tensor, "batch points 2"], Float[Tensor, "batch points"]]:
    """Return the place of each point, at the largest cell of its heat map, and the probability of that cell.

    Example:
        >>> heat = torch.tensor([[[[0.0, 9.0], [0.0, 0.0]]]])
        >>> read_points(heat, torch.zeros(1, 1, 2, 2, 2))[0]
        tensor([[[0.7500, 0.2500]]])
    """
    height, width = heat.shape[-2:]
    confidence, cell = functional.softmax(heat.float().flatten(2), dim=-1).max(dim=-1)
    moved = offset.float().flatten(3).gather(3, cell[:, :, None, None].expand(-1, -1, 2, 1)).squeeze(3)
    places = centres(height, width, moved)[cell] + moved
    return (places / places.new_tensor([width, height])).clamp(0, 1), confidence
