"""Boxes: how far they overlap, and which of the found ones are true.

A box is left, top, right and bottom, in any unit of length; [..., 4].
"""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from temper.fields import PRESENT, UNDECIDED

UNMATCHED, EXCUSED = -1, -2
"""What `match` answers for a found box that is wrong, and for one on a truth that is undecided."""


def area(boxes: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape"]:
    """Return the areas of boxes; 0 for those whose ends are swapped."""
    return (boxes[..., 2:] - boxes[..., :2]).clamp(min=0).prod(dim=-1)


def overlap(
    found: Float[Tensor, "batch found 4"],
    true: Float[Tensor, "batch true 4"],
    crowds: Bool[Tensor, "batch true"] | None = None,
) -> Float[Tensor, "batch found true"]:
    """Return the intersection of each pair of boxes, as a share of their union.

    Args:
        found: Boxes.
        true: Other boxes.
        crowds: Which of the others are crowds, where the share is that of the found box (as in COCO).

    Example:
        >>> overlap(torch.tensor([[[0.0, 0.0, 2.0, 1.0]]]), torch.tensor([[[1.0, 0.0, 3.0, 1.0]]]))
        tensor([[[0.3333]]])
    """
    ours, theirs = found[:, :, None], true[:, None]
    corners = [torch.maximum(ours[..., :2], theirs[..., :2]), torch.minimum(ours[..., 2:], theirs[..., 2:])]
    common = area(torch.cat(corners, dim=-1))
    whole = area(ours) + area(theirs) - common
    if crowds is not None:
        whole = whole.where(~crowds[:, None], area(ours).expand_as(whole))
    return common / whole.clamp(min=1e-12)


def generalized_overlap(
    found: Float[Tensor, "*shape 4"], true: Float[Tensor, "*shape 4"]
) -> Float[Tensor, "*shape"]:
    """Return the share of the union that two boxes have in common, minus the share of the hull beside both.

    Source:
        Rezatofighi et al. 2019, arXiv:1902.09630: the generalised intersection over union, -1 to 1.
    """
    inner = [torch.maximum(found[..., :2], true[..., :2]), torch.minimum(found[..., 2:], true[..., 2:])]
    outer = [torch.minimum(found[..., :2], true[..., :2]), torch.maximum(found[..., 2:], true[..., 2:])]
    common, hull = area(torch.cat(inner, dim=-1)), area(torch.cat(outer, dim=-1))
    union = area(found) + area(true) - common
    return common / union.clamp(min=1e-7) - (hull - union) / hull.clamp(min=1e-7)


def match(
    overlaps: Float[Tensor, "batch found true"],
    possible: Bool[Tensor, "batch found true"],
    valid: Int[Tensor, "batch true"],
    least: Float[Tensor, "thresholds"],
    lesser: Bool[Tensor, "batch true"] | None = None,
) -> Int[Tensor, "batch thresholds found"]:
    """Return which true box each found one is: the best one that no earlier one took.

    Args:
        overlaps: Overlap of each pair.
        possible: Which pairs may match, for example those of one class.
        valid: Which true boxes count: absent, present or undecided. An undecided one excuses any number of
            found boxes that no present one explains.
        least: Smallest overlaps of a match.
        lesser: Which true boxes are there, but are not asked for, such as those of another size: each
            excuses one found box that is none of the others.

    Returns:
        Number of the true box, `UNMATCHED` or `EXCUSED`, for found boxes in order of falling score.

    Source:
        COCO's evaluation: Lin et al. 2014, arXiv:1405.0312, and its published tool.
    """
    batch, found, _ = overlaps.shape
    free = (valid == PRESENT)[:, None].repeat(1, len(least), 1)
    crowds = (valid == UNDECIDED)[:, None]
    matched = torch.full((batch, len(least), found), UNMATCHED, dtype=torch.long, device=overlaps.device)
    if not overlaps.shape[2]:
        return matched
    # An overlap is at most 1, so those that are asked for come first.
    asked = torch.ones_like(valid) if lesser is None else 1 - lesser.long()
    for number in range(found):
        here = overlaps[:, number, None]
        close = possible[:, number, None] & (here >= least[:, None].clamp(max=1 - 1e-10))
        value, best = (here + 2 * asked[:, None]).masked_fill(~(close & free), -1).max(dim=2)
        taken = value >= 0
        excused = (close & crowds).any(dim=2) | taken
        matched[:, :, number] = torch.where(value >= 2, best, torch.where(excused, EXCUSED, UNMATCHED))
        free &= ~(torch.zeros_like(free).scatter(2, best[..., None], True) & taken[..., None])
    return matched
