"""Boxes as maps: how likely each cell of a grid is the middle of an object, and how far its sides are.

Boxes are shares of the image's width and height: left, top, right, bottom. `heat` [batch, classes, rows,
columns] holds log-odds; `sides` [batch, 4, rows, columns] the logarithms of the distances, in cells, from the
middle of the cell to the left, top, right and bottom side.

Source:
    Zhou et al. 2019, arXiv:1904.07850 (objects as points), with sides as in Tian et al. 2019,
    arXiv:1904.01355, and bells that grow with the object as in Liu et al. 2019, arXiv:1909.00700.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from temper.fields import PRESENT, UNDECIDED
from temper.maths.boxes import generalized_overlap, overlap
from temper.maths.heatmaps import centres

_SPREAD, _NARROWEST = 0.12, 0.4
"""Standard deviation of the bell round a middle as a share of the box's side, and at least, in cells."""
_NEAR = 0.3
"""Height of the bell from which on a cell learns the sides of the box."""
_LONGEST = 8.0
"""Largest logarithm of a distance."""


def box_loss(
    heat: Float[Tensor, "batch classes height width"],
    sides: Float[Tensor, "batch 4 height width"],
    boxes: Float[Tensor, "batch boxes 4"],
    classes: Int[Tensor, "batch boxes"],
    valid: Int[Tensor, "batch boxes"],
) -> Float[Tensor, "batch"]:
    """Return the loss of each image: focal loss of the heat, and 1 - generalised overlap near the middles.

    Cells in an undecided box are not asked whether they are the middle of an object.

    Source:
        Focal loss with bells: Law and Deng 2018, arXiv:1808.01244, section 3.2.
    """
    height, width = heat.shape[-2:]
    there = valid == PRESENT
    bells = _bells(boxes, height, width) * there[:, :, None]
    wanted = heat.new_zeros(heat.flatten(2).shape).float()
    wanted = wanted.scatter_reduce(1, classes[:, :, None].expand_as(bells), bells, "amax")
    logits = heat.float().flatten(2)
    share = logits.sigmoid()
    middle = wanted == 1
    right = -(1 - share).square() * functional.logsigmoid(logits) * middle
    wrong = -((1 - wanted) ** 4) * share.square() * functional.logsigmoid(-logits) * ~middle
    cells = centres(height, width, boxes) / boxes.new_tensor([width, height])
    inside = ((cells > boxes[:, :, None, :2]) & (cells < boxes[:, :, None, 2:])).all(dim=-1)
    excused = (inside & (valid == UNDECIDED)[:, :, None]).any(dim=1, keepdim=True)
    count = there.sum(dim=1).clamp(min=1)
    seen = (right + wrong * ~excused).flatten(1).sum(dim=1) / count
    if not boxes.shape[1]:
        return seen
    weight, owner = bells.max(dim=1)
    weight = weight * (weight >= _NEAR)
    true = boxes.gather(1, owner[..., None].expand(-1, -1, 4))
    apart = 1 - generalized_overlap(_boxes_of(sides), true)
    return seen + (apart * weight).sum(dim=1) / weight.sum(dim=1).clamp(min=1)


def box_distance(
    outputs: Mapping[str, Tensor], reference: Mapping[str, Tensor], *, temperature: float
) -> Float[Tensor, "batch"]:
    """Return how far heat and sides are from those of another network; only `outputs` gets a gradient.

    Args:
        outputs: `heat` and `sides`.
        reference: Those of the other network.
        temperature: Softening of the heat, above 0.

    Returns:
        Nats, and logarithms of distances, per object; 0 if the two agree.
    """
    heat, theirs = (each["heat"].float() for each in (outputs, reference))
    theirs = theirs.detach()
    here, there = heat.detach().sigmoid(), theirs.sigmoid()
    found, wanted = heat / temperature, theirs / temperature
    share = wanted.sigmoid()
    yes = share * (functional.logsigmoid(wanted) - functional.logsigmoid(found))
    no = (1 - share) * (functional.logsigmoid(-wanted) - functional.logsigmoid(-found))
    unlike = temperature**2 * (yes + no).clamp(min=0) * torch.maximum(here, there).square()
    apart = (outputs["sides"] - reference["sides"].detach()).float().abs().mean(dim=1)
    seen = there.amax(dim=1).square()
    whole = unlike.flatten(1).sum(dim=1) + (seen * apart).flatten(1).sum(dim=1)
    return whole / (1 + there.flatten(1).sum(dim=1))


def read_boxes(
    heat: Float[Tensor, "batch classes height width"],
    sides: Float[Tensor, "batch 4 height width"],
    *,
    most: int,
    least: float,
    most_overlap: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the boxes at the peaks of the heat, best first: boxes, classes, scores, and which of them count.

    Of equal neighbours, the first one is the peak. A box that overlaps a better one of its class too far does
    not count. What does not count is 0.

    Args:
        heat: Log-odds.
        sides: Logarithms of distances.
        most: Largest number of boxes.
        least: Smallest score of a box.
        most_overlap: Largest overlap of two boxes of a class.
    """
    height, width = heat.shape[-2:]
    size = height * width
    # Ordered by place where equal, so that every runtime finds the same ones.
    order = torch.arange(heat.shape[1] * size, device=heat.device).view(1, -1, height, width)
    keys = heat.double() - order.double() * 1e-9
    peaks = functional.max_pool2d(keys, 3, 1, 1) == keys
    keys = torch.where(peaks, keys, -1e9).flatten(1)
    best, place = keys.topk(min(most, keys.shape[1]), dim=1)
    number, cell = place // size, place % size
    boxes = _boxes_of(sides).gather(1, cell[..., None].expand(-1, -1, 4)).clamp(0, 1)
    scores = heat.float().flatten(1).gather(1, place).sigmoid()
    same = number[:, :, None] == number[:, None]
    better = torch.ones_like(same).tril(diagonal=-1)
    repeated = (same & better & (overlap(boxes, boxes) > most_overlap)).any(dim=2)
    counts = (best > -1e8) & (scores >= least) & ~repeated
    return boxes * counts[..., None], number * counts, scores * counts, counts.long()


def _boxes_of(sides: Float[Tensor, "batch 4 height width"]) -> Float[Tensor, "batch cells 4"]:
    """Return the box that each cell says, as shares."""
    height, width = sides.shape[-2:]
    reach = sides.float().clamp(max=_LONGEST).exp().flatten(2).transpose(1, 2)
    middles = centres(height, width, reach)
    ends = torch.cat([middles - reach[..., :2], middles + reach[..., 2:]], dim=2)
    return ends / ends.new_tensor([width, height, width, height])


def _bells(
    boxes: Float[Tensor, "batch boxes 4"], height: int, width: int
) -> Float[Tensor, "batch boxes cells"]:
    """Return a bell for each box: 1 in the cell that contains its middle, lower around it."""
    scale = boxes.new_tensor([width, height])
    middle = ((boxes[..., :2] + boxes[..., 2:]) / 2 * scale).floor()
    middle = torch.minimum(middle.clamp(min=0), scale - 1) + 0.5
    spread = ((boxes[..., 2:] - boxes[..., :2]) * scale * _SPREAD).clamp(min=_NARROWEST)
    apart = (centres(height, width, boxes) - middle[:, :, None]) / spread[:, :, None]
    return (-apart.square().sum(dim=-1) / 2).exp()
