"""The toys of detection: bright squares, and answers that are certain of the boxes round them."""

import json
from collections.abc import Sequence

import numpy as np
import torch

from temper.maths.anchors import lay_anchors, middles
from temper.maths.boxes import overlap
from temper.problem import Outputs, Row, Targets

SIZE = 12
CLASSES = ("circle", "cross", "square")


def draw_bands(generator: np.random.Generator, shades: list[int]) -> np.ndarray:
    """Noise, with a bright band in the colour of each shade."""
    image = generator.integers(0, 80, (SIZE, SIZE, 3), dtype=np.uint8)
    for shade in shades:
        image[:, :, shade] += 150
    return image


def draw_boxes(generator: np.random.Generator) -> tuple[Row, dict[str, np.ndarray]]:
    """At most two bright squares, one in each half, in the colours of their classes."""
    image, boxes = draw_bands(generator, []), []
    for half in range(int(generator.integers(0, 3))):
        number, side = int(generator.integers(3)), int(generator.integers(3, SIZE // 2))
        left, top = half * (SIZE - side), int(generator.integers(0, SIZE - side + 1))
        image[top : top + side, left : left + side, number] += 150
        boxes.append({"label": CLASSES[number], "box": [left, top, left + side, top + side]})
    return Row("x", "x", truth=json.dumps({"boxes": boxes})), {"image": image}


def answer_boxes(
    true: Targets, grids: Sequence[int] = (6, 3), shapes: Sequence[tuple[float, float]] = ((4.0, 4.0),)
) -> Outputs:
    """Answers that are certain of the true boxes, at anchors on grids of so many cells each way."""
    each = {n: [(wide / n, high / n) for wide, high in shapes] for n in grids}
    anchors = torch.cat([lay_anchors(n, n, (1 / n, 1 / n), sizes) for n, sizes in each.items()])
    sides = torch.zeros(len(true["boxes"]), len(anchors), 4)
    logits = torch.full((len(true["boxes"]), len(anchors), 3), -30.0)
    finest = anchors[: grids[0] ** 2 * len(shapes)]
    for example, box in (true["boxes_valid"] == 1).nonzero().tolist():
        place = true["boxes"][example, box]
        # Of the nearest anchors, the one whose shape fits best.
        apart = (middles(finest) - middles(place)).norm(dim=1)
        best = int((apart - 0.01 * overlap(place[None, None], finest[None])[0, 0]).argmin())
        reach = torch.cat([middles(finest[best]) - place[:2], place[2:] - middles(finest[best])])
        half = (finest[best, 2:] - finest[best, :2]).repeat(2) / 2
        sides[example, best] = (reach / half).clamp(min=1e-3).log()
        logits[example, best, true["labels"][example, box]] = 30.0
    return {"logits": logits, "sides": sides, "anchors": anchors.expand(len(logits), -1, -1)}
