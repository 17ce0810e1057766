"""Crops, random scales and mosaics: where parts lie, and that boxes still enclose their objects."""

from typing import Any

import numpy as np
import pytest
import torch

from temper.data.augmentation.parts import Parts, Pool, draw_parts
from temper.data.loading.loader import Examples, TrainLoader
from temper.data.loading.params import ViewParams
from temper.data.loading.prefetch import Stream
from temper.fields import ABSENT, PRESENT, Field
from temper.inputs.image_input import ImageInput

HEIGHT, WIDTH, NUM, ROOM = 48, 64, 32, 2
TRUTH = {"boxes": Field("boxes"), "labels": Field("sequence", names=("a", "b")), "mask": Field("map")}


def parts(
    sizes: torch.Tensor, views: ViewParams, shape: tuple[int, int] = (HEIGHT, WIDTH), **pool: Any
) -> Parts:
    rows = torch.arange(len(sizes))
    known = Pool(lambda which: sizes[which], shares=torch.ones(len(sizes)).double().cumsum(0), **pool)
    return draw_parts(rows, rows, shape, known, views, seed=1)


def test_crops_lie_inside_and_have_the_areas_and_ratios_asked_for():
    sizes = torch.tensor([[300, 400], [64, 64], [500, 20]]).repeat(2000, 1)
    boxes = parts(sizes, ViewParams(crop_scale=(0.25, 0.5), crop_ratio=(0.5, 2.0))).boxes
    corner, side = boxes[:, :2], boxes[:, 2:]
    assert (corner >= 0).all() and (side >= 1).all() and (corner + side <= sizes).all()
    wide = boxes[sizes[:, 0] == 300]
    area, ratio = wide[:, 2] * wide[:, 3] / (300 * 400), wide[:, 3] / wide[:, 2]
    assert 0.249 < area.min() < 0.26 and 0.49 < area.max() < 0.502 and abs(area.mean() - 0.375) < 0.006
    assert 0.49 < ratio.min() < 0.53 and 1.9 < ratio.max() < 2.03 and abs(ratio.log().mean()) < 0.04
    whole = parts(sizes[:2], ViewParams())
    assert whole.boxes.tolist() == [[0, 0, 300, 400], [0, 0, 64, 64]]
    assert whole.places.tolist() == [[0, 0, HEIGHT, WIDTH]] * 2


def test_scales_keep_proportions_and_the_image_lies_anywhere_in_the_border():
    sizes = torch.tensor([[300, 400]]).repeat(4000, 1)
    boxes = parts(sizes, ViewParams(scale=(0.5, 2.0))).boxes
    assert (boxes[:, 3] / boxes[:, 2] - 4 / 3).abs().max() < 0.01
    factor = 400 / boxes[:, 3].double()
    assert factor.min() < 0.51 and factor.max() > 1.97 and abs(factor.log().mean()) < 0.02
    small = boxes[factor < 0.8]
    assert (small[:, :2] <= 0).all() and (small[:, :2] + small[:, 2:] >= torch.tensor([300, 400])).all()
    large = boxes[factor > 1.25]
    assert (large[:, :2] >= 0).all() and (large[:, :2] + large[:, 2:] <= torch.tensor([300, 400])).all()
    at = large[:, 0] / (300 - large[:, 2])
    assert abs(at.mean() - 0.5) < 0.03 and at.min() < 0.01 and at.max() > 0.99


def test_a_part_shows_an_object_if_the_image_has_any():
    sizes, views = torch.full((2000, 2), 100), ViewParams(scale=(2.0, 3.0))
    objects = torch.tensor([[[0.0, 0.0, 0.2, 0.2], [0.0] * 4]]).expand(2000, -1, -1)

    def show(found: Parts) -> float:
        return float(((found.boxes[:, 0] < 15) & (found.boxes[:, 1] < 15)).double().mean())

    blind, seeing = parts(sizes, views), parts(sizes, views, objects=lambda rows: objects[rows])
    assert show(blind) < 0.1 and show(seeing) > 0.25
    assert torch.equal(parts(sizes, views, objects=lambda rows: 0 * objects[rows]).boxes, blind.boxes)


def test_the_four_parts_of_a_mosaic_cover_the_image_and_come_from_examples_that_are_drawn():
    sizes = torch.tensor([[100, 80]]).repeat(500, 1)
    rows = torch.arange(500)
    shares = torch.cat([torch.zeros(250), torch.ones(250)]).double().cumsum(0)
    pool = Pool(lambda which: sizes[which], shares=shares)
    found = draw_parts(rows, rows, (HEIGHT, WIDTH), pool, ViewParams(mosaic=0.5), seed=0)
    counts = found.owners.bincount()
    assert set(counts.tolist()) == {1, 4} and 0.4 < (counts == 4).double().mean() < 0.6
    covered = torch.zeros(500, dtype=torch.long).index_add(0, found.owners, found.places[:, 2:].prod(dim=1))
    assert (covered == HEIGHT * WIDTH).all() and (found.places[:, 2:].min() >= 12)
    first = torch.cat([torch.tensor([True]), found.owners[1:] != found.owners[:-1]])
    assert torch.equal(found.rows[first], rows) and (found.rows[~first] >= 250).all()
    # Without a scale, objects keep their size.
    seen = found.places[:, 2:] * torch.tensor([100 / HEIGHT, 80 / WIDTH])
    assert (found.boxes[:, 2:] - seen).abs().max() <= 0.5


def scene() -> dict[str, np.ndarray]:
    """Dark images, each with one or two bright rectangles of a label's brightness, their boxes and a mask."""
    rng = np.random.default_rng(0)
    found = {
        "image": np.full((NUM, HEIGHT, WIDTH, 1), 20, np.uint8),
        "boxes": np.zeros((NUM, ROOM, 4), np.float32),
        "labels": np.zeros((NUM, ROOM), np.int64),
        "boxes_valid": np.full((NUM, ROOM), ABSENT, np.uint8),
        "mask": np.zeros((NUM, HEIGHT, WIDTH), np.uint8),
    }
    for number in range(NUM):
        for place in range(rng.integers(1, ROOM + 1)):
            left, top = place * WIDTH // 2 + rng.integers(0, 12), rng.integers(0, HEIGHT - 20)
            right, bottom, label = left + rng.integers(10, 20), top + rng.integers(10, 20), rng.integers(2)
            found["image"][number, top:bottom, left:right] = (180, 250)[label]
            found["mask"][number, top:bottom, left:right] = label + 1
            found["boxes"][number, place] = np.array([left, top, right, bottom]) / ([WIDTH, HEIGHT] * 2)
            found["labels"][number, place], found["boxes_valid"][number, place] = label, PRESENT
    return found


def loader(views: ViewParams, rank: int = 0, num_ranks: int = 1) -> TrainLoader:
    columns = scene()
    images = columns.pop("image")
    facts = {"image": ImageInput(HEIGHT, WIDTH, 1, mean=(20.0,))}
    stream = Stream("image", images, columns, TRUTH, views, seed=0, workers=2, repeats=np.ones(NUM, int))
    return TrainLoader(
        {},
        Examples(np.ones(NUM, int), np.ones(NUM), facts, TRUTH),
        batch_size=16,
        device=torch.device("cpu"),
        views=views,
        seed=0,
        rank=rank,
        num_ranks=num_ranks,
        stream=stream,
    )


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_boxes_and_masks_still_lie_on_their_objects(flip: bool, mosaic: float):
    views = ViewParams(scale=(0.7, 1.6), mosaic=mosaic, flip=flip)
    seen = 0
    for batch in [each for epoch in range(2) for each in loader(views).batches(epoch)]:
        image, mask = batch.inputs["image"][:, 0], batch.targets["mask"]
        bright = image > 150
        agree = (bright == ((mask == 1) | (mask == 2))) | (mask == 255)
        assert agree.double().mean() > 0.98
        for example, box in (batch.targets["boxes_valid"] == PRESENT).nonzero().tolist():
            left, top, right, bottom = batch.targets["boxes"][example, box] * torch.tensor(
                [WIDTH, HEIGHT] * 2
            )
            wide, high = (
                slice(max(0, int(left) - 1), int(right) + 2),
                slice(max(0, int(top) - 1), int(bottom) + 2),
            )
            bright[example, high, wide] = False
            if min(right - left, bottom - top) < 4:
                continue
            inner = image[example, int(top) + 2 : int(bottom) - 1, int(left) + 2 : int(right) - 1]
            wanted = (180, 250)[batch.targets["labels"][example, box]]
            assert (inner - wanted).abs().max() <= 2, "an object fills its box, in its own brightness"
            seen += 1
        hidden = batch.targets["boxes_valid"] == 2
        assert bright[~hidden.any(dim=1)].sum() == 0, "nothing bright lies outside all boxes"
    assert seen > 60


def test_ranks_together_see_what_one_sees():
    views = ViewParams(scale=(0.7, 1.6), mosaic=0.5, mixup=8.0)
    alone = list(loader(views).batches(1))
    halves = [list(loader(views, rank, 2).batches(1)) for rank in range(2)]
    for number, whole in enumerate(alone):
        for name, value in {**whole.inputs, **whole.targets}.items():
            found = [{**half[number].inputs, **half[number].targets}[name] for half in halves]
            assert torch.equal(torch.cat(found), value), name


def test_a_mixed_image_shows_the_objects_of_both():
    plain = next(iter(loader(ViewParams(scale=(1.0, 1.0))).batches(0)))
    mixed = next(iter(loader(ViewParams(scale=(1.0, 1.0), mixup=8.0, mix_share=1.0)).batches(0)))
    assert mixed.others is None and mixed.shares is None
    both = torch.cat([plain.targets["boxes"], plain.targets["boxes"].roll(-1, 0)], dim=1)
    assert torch.equal(mixed.targets["boxes"], both)
    assert mixed.targets["labels"].shape == mixed.targets["boxes_valid"].shape == (16, 2 * ROOM)
    with pytest.raises(ValueError, match=r"crop_scale = \[0.5, 1\]: random crops exclude random scales"):
        ViewParams(crop_scale=(0.5, 1), mosaic=0.5)
