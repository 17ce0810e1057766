"""The head of a detector: at each anchor of several grids, which object it finds and where its sides are."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from temper.maths.anchors import lay_anchors
from temper.networks.backbones import convolution
from temper.networks.head_params import DetectorParams
from temper.networks.heads import Pyramid, to_cells
from temper.problem import Backbone, Inputs, Outputs

_RARE = 0.01
"""Probability with which a fresh network expects an object at an anchor."""
Shape = tuple[float, float]


class Detector(Pyramid):
    """Grids of anchors over an image, each with its own convolutions for classes and for boxes.

    Outputs: `logits` [batch, anchors, classes]; `sides` [batch, anchors, 4], logarithms of distances; and
    the `anchors` [batch, anchors, 4] themselves, shares of the image (`temper.maths.anchors`).

    Args:
        encoders: The one backbone that gives the maps, by the name of its input.
        num_classes: Number of classes.
        cells_px: Side in pixels of the square cells of each grid, finest first.
        shapes: Width and height of the anchors of a cell of each grid: in cells if they are the same for
            every image, or else as shares of the image.
        in_cells: Which of both they are.
        params: Settings of the head.

    Source:
        Decoupled branches: Ge et al. 2021, arXiv:2107.08430, section 2.1.
    """

    def __init__(
        self,
        encoders: Mapping[str, Backbone],
        *,
        num_classes: int,
        cells_px: Sequence[int],
        shapes: Sequence[Sequence[Shape]],
        in_cells: bool,
        params: DetectorParams,
    ) -> None:
        super().__init__(encoders, params=params, stride=cells_px[0])
        self.cells_px, self.shapes, self.in_cells = tuple(cells_px), shapes, in_cells
        strides = self.backbone.strides[-len(self.laterals) :]
        # The merged map from which a grid is made, or None for the next coarser one of the grid before.
        self.from_map = [_find_map(strides, cell, first=not place) for place, cell in enumerate(cells_px)]
        self.coarser = nn.ModuleList(
            nn.Sequential(convolution(self.width, self.width, 3, 2), nn.ReLU())
            for place in self.from_map
            if place is None
        )
        self.classes, self.sides = (
            nn.ModuleList(_branch(self.width, params.depth, wide * len(each)) for each in shapes)
            for wide in (num_classes, 4)
        )
        self.num_classes = num_classes
        for branch in self.classes:
            # Objects are rare: without this, the many empty anchors decide the first steps.
            nn.init.constant_(branch[-1].bias, -math.log(1 / _RARE - 1))  # type: ignore[index]

    def forward(self, inputs: Inputs) -> Outputs:
        image = inputs[self.seen]
        logits, sides, anchors = [], [], []
        for level, maps in enumerate(self.grids(image)):
            logits.append(self._by_anchor(self.classes[level](maps), self.num_classes))
            sides.append(self._by_anchor(self.sides[level](maps), 4))
            anchors.append(self._anchors(level, maps, image))
        all_anchors = torch.cat(anchors).to(image.device)
        return {
            "logits": torch.cat(logits, dim=1),
            "sides": torch.cat(sides, dim=1),
            "anchors": all_anchors.expand(image.shape[0], -1, -1),
        }

    def shift_scores(self, by: float) -> None:
        """Add a number to all log-odds."""
        with torch.no_grad():
            for branch in self.classes:
                branch[-1].bias += by  # type: ignore[index]

    def grids(self, image: Tensor) -> list[Tensor]:
        """Return the feature map of each grid, [batch, width, rows, columns]."""
        merged = self.merge_all(image)
        found: list[Tensor] = []
        coarser = iter(self.coarser)
        for place, cell in zip(self.from_map, self.cells_px, strict=True):
            maps = next(coarser)(found[-1]) if place is None else merged[place]
            found.append(to_cells(maps, image, cell))
        return found

    def _anchors(self, level: int, maps: Tensor, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        cell = self.cells_px[level] / width, self.cells_px[level] / height
        shapes = self.shapes[level]
        if self.in_cells:
            shapes = [(wide * cell[0], high * cell[1]) for wide, high in shapes]
        return lay_anchors(maps.shape[-2], maps.shape[-1], cell, shapes)

    @staticmethod
    def _by_anchor(maps: Tensor, each: int) -> Tensor:
        """Return maps [batch, anchors of a cell * each, rows, columns] as [batch, anchors, each]."""
        return maps.permute(0, 2, 3, 1).reshape(maps.shape[0], -1, each)


def _find_map(strides: Sequence[int], cell_px: int, *, first: bool) -> int | None:
    """Return which map, finest first, a grid is made of: the coarsest that is not coarser than its cells.

    None if that map already served a finer grid. The first grid takes the finest map in any case.
    """
    if cell_px in strides:
        return strides.index(cell_px)
    return 0 if first else None


def _branch(width: int, depth: int, num_outputs: int) -> nn.Sequential:
    layers = [nn.Sequential(convolution(width, width, 3), nn.ReLU()) for _ in range(depth)]
    return nn.Sequential(*layers, nn.Conv2d(width, num_outputs, 1))
