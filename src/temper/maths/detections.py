"""Detections: what answers at anchors cost, how far those of two networks differ, and which boxes they say.

`logits` [batch, anchors, classes] are log-odds that the anchor finds an object of the class; `sides` [batch,
anchors, 4] lead from the `anchors` [batch, anchors, 4] to its box (`temper.maths.anchors`).
"""

from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from temper.maths.anchors import decode
from temper.maths.assignment import Assignment
from temper.maths.boxes import generalized_overlap, overlap

_BOX_WEIGHT = 2.0
"""Weight of the boxes beside the classes, as in the paper of task alignment learning."""
_CANDIDATES = 3
"""Number of candidates for each box of an answer."""
_ROUNDS = 12
"""Largest number of boxes, each of which rules out the next one, that are followed one by one."""
_NEVER = -1e9


def detection_loss(
    outputs: Mapping[str, Tensor],
    assigned: Assignment,
    true: Float[Tensor, "batch objects 4"],
    labels: Int[Tensor, "batch objects"],
) -> Float[Tensor, "batch"]:
    """Return the loss of each image: of the classes at all anchors, and of the boxes at those that find one.

    Both are sums, divided by the sum of how sure the anchors shall be.

    Source:
        Classes: Li et al. 2020, arXiv:2006.04388 (quality focal loss; with certain targets it is the focal
        loss of Lin et al. 2017, arXiv:1708.02002). Boxes: generalised intersection over union.
    """
    logits = outputs["logits"].float()
    sure = assigned.sureness
    own = labels.gather(1, assigned.owner)
    wanted = torch.zeros_like(logits).scatter(2, own[..., None], sure[..., None])
    unlike = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    focus = (wanted - logits.sigmoid()).square()
    classes = (focus * unlike).sum(dim=2) * assigned.counts
    boxes = decode(outputs["sides"], outputs["anchors"])
    apart = 1 - generalized_overlap(boxes, true.gather(1, assigned.owner[..., None].expand_as(boxes)))
    whole = classes.sum(dim=1) + _BOX_WEIGHT * (apart * sure).sum(dim=1)
    return whole / sure.sum(dim=1).clamp(min=1)


def detection_distance(
    outputs: Mapping[str, Tensor], reference: Mapping[str, Tensor], *, temperature: float
) -> Float[Tensor, "batch"]:
    """Return how far classes and boxes are from those of another network; only `outputs` gets a gradient.

    Classes count more, the further apart the probabilities are, and boxes as much as the reference is sure.

    Args:
        outputs: What a network says.
        reference: What the other one says, at the same anchors.
        temperature: Softening of the classes, above 0.

    Returns:
        A sum over anchors, divided by the sum of how sure the reference is; 0 if the two agree.

    Source:
        Zheng et al. 2022, arXiv:2102.12252 (distillation of classes and of where boxes are, each where it
        matters); the focus as in the loss.
    """
    found, wanted = (each["logits"].float() / temperature for each in (outputs, reference))
    wanted = wanted.detach()
    share = wanted.sigmoid()
    unlike = functional.binary_cross_entropy_with_logits(found, share, reduction="none")
    unlike = unlike - functional.binary_cross_entropy(share, share, reduction="none")
    focus = (share - found.sigmoid()).abs()
    ours = decode(outputs["sides"], outputs["anchors"])
    theirs = decode(reference["sides"].detach(), reference["anchors"])
    sure = reference["logits"].detach().float().sigmoid().amax(dim=2)
    apart = 1 - generalized_overlap(ours, theirs)
    whole = temperature**2 * (focus * unlike).flatten(1).sum(dim=1) + _BOX_WEIGHT * (apart * sure).sum(dim=1)
    return whole / sure.sum(dim=1).clamp(min=1)


def read_detections(
    outputs: Mapping[str, Tensor], *, most: int, least: float, most_overlap: float
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the boxes of an answer, best first: boxes, classes, scores, and which of them count.

    A box that overlaps a better one of its class too far does not count. What does not count is 0.

    Args:
        outputs: What a network says.
        most: Largest number of boxes.
        least: Smallest score of a box.
        most_overlap: Largest overlap of two boxes of a class.
    """
    logits = outputs["logits"].float()
    anchors, classes = logits.shape[1:]
    # Ordered by place where equal, so that every runtime finds the same ones.
    order = torch.arange(anchors * classes, dtype=torch.double, device=logits.device)
    keys = logits.flatten(1).double() - order * 1e-12
    best, place = keys.topk(min(_CANDIDATES * most, anchors * classes), dim=1)
    number, anchor = place % classes, place // classes
    where = anchor[..., None].expand(-1, -1, 4)
    boxes = decode(outputs["sides"].gather(1, where), outputs["anchors"].gather(1, where)).clamp(0, 1)
    scores = logits.flatten(1).gather(1, place).sigmoid()
    counts = suppress(boxes, number, scores >= least, most_overlap)
    # Those that count, in the same order, come first.
    rank = torch.where(counts, best, _NEVER) - torch.arange(best.shape[1], device=best.device) * 1e-12
    kept = rank.topk(min(most, best.shape[1]), dim=1).indices
    counts, number, scores = (each.gather(1, kept) for each in (counts, number, scores))
    boxes = boxes.gather(1, kept[..., None].expand(-1, -1, 4))
    return boxes * counts[..., None], number * counts, scores * counts, counts.long()


def suppress(
    boxes: Float[Tensor, "batch boxes 4"],
    classes: Int[Tensor, "batch boxes"],
    counts: Bool[Tensor, "batch boxes"],
    most_overlap: float,
) -> Bool[Tensor, "batch boxes"]:
    """Return which boxes count: those that overlap no better one that counts, of their class, too far.

    Boxes are compared all at once, in rounds: a box that one round rules out no longer rules out others in
    the next one. After as many rounds as boxes rule each other out in a row, the result is that of the
    customary comparison one by one.

    Args:
        boxes: Boxes, best first.
        classes: Their class numbers.
        counts: Which of them may count.
        most_overlap: Largest overlap of two boxes of a class.

    Source:
        Zheng et al. 2020, arXiv:2005.03572, section 4 (cluster non-maximum suppression).
    """
    same = classes[:, :, None] == classes[:, None]
    better = torch.ones_like(same).tril(diagonal=-1)
    rules_out = same & better & (overlap(boxes, boxes) > most_overlap)
    kept = counts
    for _ in range(_ROUNDS):
        kept = counts & ~(rules_out & kept[:, None]).any(dim=2)
    return kept
