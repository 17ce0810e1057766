"""Assignment: which anchors shall find which object, and how sure each of them shall be.

There are two ways. `by_task` asks the network: the anchors inside an object that already score and fit best
shall find it, each as sure as its box fits. `by_overlap` asks the anchors: those that lie on an object shall
find it, with certainty.

Boxes are shares of the image's width and height.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from temper.fields import PRESENT, UNDECIDED
from temper.maths.anchors import middles
from temper.maths.boxes import overlap

_FINDERS = 10
"""Number of anchors that shall find an object."""
_LEAST_TASK = 1e-30
"""Smallest measure of how well an anchor in an object does its task."""
_SAME, _OTHER = 0.5, 0.4
"""Overlap from which an anchor is on an object, and below which it is beside it; between, it learns
nothing."""
_SMALLEST = 1 / 8
"""Share of an anchor's side that an object reaches from its middle at least, so that some anchor lies in it.
It is half a cell, if anchors are as large as four cells."""


@dataclass(frozen=True)
class Assignment:
    """What each anchor of a batch shall say."""

    owner: Int[Tensor, "batch anchors"]
    """Number of the object that the anchor shall find; 0 if it shall find none."""
    sureness: Float[Tensor, "batch anchors"]
    """How sure it shall be of the object's class, 0 to 1; 0 if it shall find none."""
    counts: Bool[Tensor, "batch anchors"]
    """Whether it is asked for a class at all. Anchors in undecided objects are not."""


def by_task(
    scores: Float[Tensor, "batch anchors classes"],
    boxes: Float[Tensor, "batch anchors 4"],
    anchors: Float[Tensor, "batch anchors 4"],
    true: Float[Tensor, "batch objects 4"],
    labels: Int[Tensor, "batch objects"],
    valid: Int[Tensor, "batch objects"],
) -> Assignment:
    """Return the assignment by the network's own answers, which get no gradient.

    Of the anchors whose middle lies in an object, the ten with the largest product of the score's root and
    the overlap's sixth power shall find it. An anchor that two objects want finds the one that it overlaps
    more. The best finder shall be as sure as its box overlaps the object, and the others are less sure in
    proportion.

    Args:
        scores: Probabilities.
        boxes: Boxes that the network says.
        anchors: The anchors.
        true: True boxes.
        labels: Their class numbers.
        valid: Which of them count.

    Source:
        Feng et al. 2021, arXiv:2108.07755, section 3.2 (task alignment learning).
    """
    there = (valid == PRESENT)[:, :, None]
    inside = _inside(anchors, true)
    close = overlap(true, boxes)
    each = scores.transpose(1, 2).gather(1, labels[:, :, None].expand(-1, -1, scores.shape[1]))
    # The square root of the score and the sixth power of the overlap, as products: they take half the time.
    task = each.sqrt() * (close * close * close).square()
    # Of anchors that do equally badly, where nothing fits yet, any may find it, but not none.
    task = task.clamp(min=_LEAST_TASK) * (inside & there)
    finders = min(_FINDERS, task.shape[2])
    best = task.topk(finders, dim=2)
    chosen = torch.zeros_like(task, dtype=torch.bool).scatter(2, best.indices, best.values > 0)
    owner = close.masked_fill(~chosen, -1).argmax(dim=1)
    found = chosen.any(dim=1)
    own = torch.zeros_like(chosen).scatter(1, owner[:, None], found[:, None]) & chosen
    task = task * own
    least = torch.finfo(task.dtype).tiny
    share = task / task.amax(dim=2, keepdim=True).clamp(min=least)
    sureness = (share * (close * own).amax(dim=2, keepdim=True)).amax(dim=1)
    return Assignment(owner * found, sureness.float() * found, found | ~_excused(inside, valid))


def by_overlap(
    anchors: Float[Tensor, "batch anchors 4"],
    true: Float[Tensor, "batch objects 4"],
    valid: Int[Tensor, "batch objects"],
) -> Assignment:
    """Return the assignment by the anchors alone.

    An anchor that overlaps objects by a half or more shall find the one that it overlaps most. The anchor
    that overlaps an object most shall find it, however little that is.

    Args:
        anchors: The anchors.
        true: True boxes.
        valid: Which of them count.

    Source:
        Lin et al. 2017, arXiv:1708.02002, section 4 (RetinaNet); the best anchor of each object: Ren et al.
        2015, arXiv:1506.01497, section 3.1.2.
    """
    there = (valid == PRESENT)[:, :, None]
    close = overlap(true, anchors) * there
    most, owner = close.max(dim=1)
    found = most >= _SAME
    best = (close == close.amax(dim=2, keepdim=True)) & (close > 0)
    owner = torch.where(best.any(dim=1), (close * best).argmax(dim=1), owner)
    found = found | best.any(dim=1)
    counts = found | ((most < _OTHER) & ~_excused(_inside(anchors, true), valid))
    return Assignment(owner * found, found.float(), counts)


def _inside(anchors: Tensor, true: Tensor) -> Bool[Tensor, "batch objects anchors"]:
    """Return which anchors have their middle in which object; a small object is taken as a bit larger."""
    middle, half = middles(true)[:, :, None], (true[..., 2:] - true[..., :2])[:, :, None] / 2
    least = _SMALLEST * (anchors[..., 2:] - anchors[..., :2])[:, None]
    return ((middles(anchors)[:, None] - middle).abs() <= torch.maximum(half, least)).all(dim=-1)


def _excused(inside: Tensor, valid: Tensor) -> Bool[Tensor, "batch anchors"]:
    """Return which anchors lie in an undecided object."""
    return (inside & (valid == UNDECIDED)[:, :, None]).any(dim=1)
