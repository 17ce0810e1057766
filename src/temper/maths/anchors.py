"""Anchors: boxes on a grid, against which a network says where the objects are.

A grid has square cells of some pixels, and each cell has one anchor or several, all with their middle in the
middle of the cell. A network answers with four logarithms per anchor: how far left, above, right and below
of this middle the sides of the object are, as shares of half the width or half the height of the anchor. An
answer of zeros is the anchor itself.

All boxes are left, top, right and bottom, as shares of the image's width and height.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

Shape = tuple[float, float]
"""Width and height."""
_ROUNDS = 100
"""Largest number of rounds in which shapes are fitted; some tens are enough."""
_SAME = 0.5
"""Overlap from which a shape stands for a box."""
_LONGEST = 6.0
"""Largest logarithm of a distance: 400 times half an anchor is more than any image."""


def lay_anchors(
    rows: int, columns: int, cell: tuple[float, float], shapes: Sequence[Shape]
) -> Float[Tensor, "anchors 4"]:
    """Return the anchors of a grid, cell by cell and row by row.

    Args:
        rows: Number of rows of cells.
        columns: Number of columns.
        cell: Width and height of a cell, as shares of the image.
        shapes: Width and height of each of the anchors of a cell, as shares of the image.

    Example:
        >>> lay_anchors(1, 2, (0.5, 1.0), [(0.5, 0.5)])
        tensor([[0.0000, 0.2500, 0.5000, 0.7500],
                [0.5000, 0.2500, 1.0000, 0.7500]])
    """
    down, across = (
        (torch.arange(count) + 0.5) * side for count, side in ((rows, cell[1]), (columns, cell[0]))
    )
    middles = torch.stack(torch.meshgrid(down, across, indexing="ij")[::-1], dim=-1).flatten(0, 1)[:, None]
    halves = torch.tensor(shapes)[None] / 2
    return torch.cat([middles - halves, middles + halves], dim=-1).flatten(0, 1)


def decode(sides: Float[Tensor, "*shape 4"], anchors: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape 4"]:
    """Return the boxes that a network says.

    Args:
        sides: Logarithms of the distances of left, top, right and bottom from the middle of the anchor.
        anchors: The anchors.

    Example:
        >>> decode(torch.zeros(4), torch.tensor([0.1, 0.2, 0.5, 0.8]))
        tensor([0.1000, 0.2000, 0.5000, 0.8000])
    """
    middle, half = _middle_and_half(anchors)
    reach = sides.float().clamp(max=_LONGEST).exp()
    return torch.cat([middle - reach[..., :2] * half, middle + reach[..., 2:] * half], dim=-1)


def middles(anchors: Float[Tensor, "*shape 4"]) -> Float[Tensor, "*shape 2"]:
    """Return the middles of boxes, across and down."""
    return _middle_and_half(anchors)[0]


def fit_shapes(sides: Float[Tensor, "boxes 2"], count: int) -> list[Shape]:
    """Return the shapes that overlap boxes best, smallest first: k-means with 1 - overlap as the distance.

    Boxes and shapes are compared with a common middle. A shape is the median of its boxes. The first shapes
    are those of boxes at evenly spread ranks of the area, so that nothing depends on chance.

    Args:
        sides: Widths and heights of boxes, in any unit.
        count: Number of shapes.

    Source:
        Redmon and Farhadi 2016, arXiv:1612.08242, section 2 (dimension clusters).
    """
    ordered = sides.double()[sides.double().prod(dim=1).argsort(stable=True)]
    ranks = ((torch.arange(count) + 0.5) / count * len(ordered)).long().clamp(max=len(ordered) - 1)
    shapes, before = ordered[ranks], torch.full((len(ordered),), -1)
    for _ in range(_ROUNDS):
        nearest = _overlap_of_shapes(ordered, shapes).argmax(dim=1)
        if torch.equal(nearest, before):
            break
        before = nearest
        for number in nearest.unique().tolist():
            shapes[number] = ordered[nearest == number].median(dim=0).values
    order = shapes.prod(dim=1).argsort(stable=True)
    return [(round(wide, 5), round(high, 5)) for wide, high in shapes[order].tolist()]


def judge_shapes(sides: Float[Tensor, "boxes 2"], shapes: Sequence[Shape]) -> tuple[float, float]:
    """Return the mean best overlap of boxes with shapes, and the share of boxes with one of a half or more.

    Example:
        >>> judge_shapes(torch.tensor([[2.0, 2.0], [1.0, 1.0]]), [(2.0, 2.0)])
        (0.625, 0.5)
    """
    best = _overlap_of_shapes(sides.double(), torch.tensor(shapes, dtype=torch.double)).amax(dim=1)
    return float(best.mean()), float((best >= _SAME).double().mean())


def _overlap_of_shapes(sides: Tensor, shapes: Tensor) -> Float[Tensor, "boxes shapes"]:
    common = torch.minimum(sides[:, None], shapes[None]).prod(dim=2)
    return common / (sides.prod(dim=1)[:, None] + shapes.prod(dim=1)[None] - common).clamp(min=1e-12)


def _middle_and_half(boxes: Tensor) -> tuple[Tensor, Tensor]:
    first, last = boxes[..., :2], boxes[..., 2:]
    return (first + last) / 2, (last - first) / 2
