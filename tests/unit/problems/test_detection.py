"""Detection: what boxes mean, how they are scored (COCO's own tool agrees), and what is refused."""

import contextlib
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import batched_nms

from temper.fields import ABSENT, PRESENT, UNDECIDED, Frame
from temper.inputs.image_input import ImageInput
from temper.maths.anchors import lay_anchors
from temper.maths.boxes import EXCUSED, UNMATCHED, generalized_overlap, match, overlap
from temper.maths.detections import read_detections, suppress
from temper.maths.geometry import frame_of
from temper.problem import Row
from temper.problems.detection import Detection
from tests.toy import TOYS

CLASSES = ("cat", "dog", "owl")


def row(*boxes: tuple[str, list[float]], crowd: bool = False) -> Row:
    found = [{"label": label, "box": box, **({"crowd": True} if crowd else {})} for label, box in boxes]
    return Row("x", "x.png", labels=tuple({label for label, _ in boxes}), truth=json.dumps({"boxes": found}))


def problem(**settings: Any) -> Detection:
    return Detection(**{"kind": "detection", "classes": CLASSES, "room": 3, **settings})


def test_the_data_say_classes_and_room():
    bound = Detection(kind="detection").bind([row(("dog", [0, 0, 4, 4]), ("cat", [1, 1, 3, 3])), row()])
    assert bound.classes == ("cat", "dog") and bound.room == 2
    for truth in (None, '{"age": 3}'):
        with pytest.raises(ValueError, match=r"x.png has no boxes, but this problem needs them"):
            Detection(kind="detection").bind([Row("x", "x.png", labels=("cat",), truth=truth)])


@pytest.mark.parametrize(("orientation", "expected"), [(1, [0.1, 0.2, 0.5, 0.6]), (6, [0.4, 0.1, 0.8, 0.5])])
def test_boxes_in_pixels_become_shares_of_the_upright_image(orientation: int, expected: list[float]):
    # Stored 100 x 50 px; orientation 6 shows it turned by a quarter, 50 x 100 px.
    height, width = (50, 100) if orientation == 1 else (100, 50)
    columns = problem().pack(
        row(("dog", [10, 10, 50, 30])), {}, Frame(height, width, orientation=orientation)
    )
    np.testing.assert_allclose(columns["boxes"][0], expected, atol=1e-6)
    assert columns["labels"].tolist() == [1, 0, 0] and columns["boxes_valid"].tolist() == [
        PRESENT,
        ABSENT,
        ABSENT,
    ]
    assert problem().strata(columns) == {"dog"}


def test_borders_move_boxes_and_crowds_are_undecided():
    frame = frame_of(50, 100, (64, 64), "letterbox")
    columns = problem().pack(row(("dog", [0, 0, 100, 50]), crowd=True), {}, frame)
    np.testing.assert_allclose(columns["boxes"][0], [0, 0.25, 1, 0.75])
    assert columns["boxes_valid"].tolist() == [UNDECIDED, ABSENT, ABSENT]
    assert problem().strata(columns) == {"(no object)"}


@pytest.mark.parametrize(
    ("box", "words"),
    [([5, 5, 5, 9], "has no area"), ([9, 5, 5, 9], "has no area"), ([0, 0, 200, 5], "outside the image")],
)
def test_impossible_boxes_are_refused(box: list[float], words: str):
    with pytest.raises(ValueError, match=words):
        problem().pack(row(("cat", box)), {}, Frame(10, 10))


def random_scene(
    rng: np.random.Generator, images: int
) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Truth with crowds, and answers that are shifted, missing, doubled, of another class, or invented."""
    room, most = 8, 20
    true = {"boxes": np.zeros((images, room, 4)), "labels": np.zeros((images, room), int)}
    true["boxes_valid"] = np.zeros((images, room), int)
    said = {"boxes": np.zeros((images, most, 4)), "labels": np.zeros((images, most), int)}
    said |= {"scores": np.zeros((images, most)), "boxes_valid": np.zeros((images, most), int)}
    for image in range(images):
        found = []
        for place in range(rng.integers(0, room + 1)):
            corner, sides = rng.uniform(0, 0.7, 2), rng.uniform(0.05, 0.3, 2)
            box, label = np.concatenate([corner, corner + sides]), int(rng.integers(3))
            true["boxes"][image, place], true["labels"][image, place] = box, label
            crowd = rng.random() < 0.15
            true["boxes_valid"][image, place] = UNDECIDED if crowd else PRESENT
            for _ in range(rng.choice(4, p=[0.15, 0.6, 0.2, 0.05])):
                moved = box + rng.normal(0, 0.12, 4) * np.tile(sides, 2) * rng.random()
                right = rng.random() < 0.9
                score = rng.beta(4, 2) if right else rng.beta(2, 3)
                found.append((score, moved, label if right else int(rng.integers(3))))
        for _ in range(rng.integers(0, 4)):
            corner, sides = rng.uniform(0, 0.7, 2), rng.uniform(0.05, 0.3, 2)
            found.append((rng.beta(1.5, 5), np.concatenate([corner, corner + sides]), int(rng.integers(3))))
        found.sort(key=lambda each: -each[0])
        for place, (score, box, label) in enumerate(found[:most]):
            said["boxes"][image, place], said["labels"][image, place] = box, label
            said["scores"][image, place], said["boxes_valid"][image, place] = max(score, 0.05), PRESENT
    return tuple({name: torch.from_numpy(value) for name, value in each.items()} for each in (said, true))  # type: ignore[return-value]


def by_coco(said: dict[str, torch.Tensor], true: dict[str, torch.Tensor]) -> np.ndarray:
    """Return what COCO's own tool says: `map`, `map_50`, `map_75`, `recall_10`, `recall_100`, map by size."""
    annotations, results = [], []
    for image in range(len(true["boxes"])):
        for box, label, valid in zip(
            true["boxes"][image], true["labels"][image], true["boxes_valid"][image], strict=True
        ):
            left, top, right, bottom = (box * 500).tolist()
            if valid != ABSENT:
                shape = {
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                }
                shape |= {"id": len(annotations) + 1, "image_id": image, "category_id": int(label)}
                annotations.append({**shape, "iscrowd": int(valid == UNDECIDED)})
        for place in (said["boxes_valid"][image] == PRESENT).nonzero().flatten().tolist():
            left, top, right, bottom = (said["boxes"][image, place] * 500).tolist()
            results.append(
                {
                    "image_id": image,
                    "category_id": int(said["labels"][image, place]),
                    "bbox": [left, top, right - left, bottom - top],
                    "score": float(said["scores"][image, place]),
                }
            )
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {
            "images": [{"id": image} for image in range(len(true["boxes"]))],
            "categories": [{"id": number, "name": name} for number, name in enumerate(CLASSES)],
            "annotations": annotations,
        }
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return np.array([*evaluation.stats[:3], *evaluation.stats[7:9], *evaluation.stats[3:6]])


@pytest.mark.parametrize("seed", range(5))
def test_scores_are_those_of_coco_within_a_thousandth(seed: int):
    said, true = random_scene(np.random.default_rng(seed), 300)
    scores = problem().score(problem().tally(said, true).sum(dim=0))
    names = ("map", "map_50", "map_75", "recall_10", "recall_100")
    parts = problem().parts({**true, "area_px": torch.full((300,), 500.0**2)})
    by_size = [problem().score(problem().tally(said, each).sum(dim=0))["map"] for each in parts.values()]
    ours = np.array([*(float(scores[name]) for name in names), *map(float, by_size)])
    theirs = by_coco(said, true)
    assert 0.1 < theirs[0] < 0.9
    assert np.abs(ours - theirs).max() < 1e-3, (ours, theirs)
    assert np.abs(ours[3:5] - theirs[3:5]).max() < 1e-9


def test_f1_counts_the_boxes_that_are_decisions():
    box = torch.tensor([[[0.0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0.5, 0.4, 1]]])
    true = {"boxes": box, "labels": torch.tensor([[0, 0, 1]]), "boxes_valid": torch.tensor([[1, 1, 1]])}
    said = {"boxes": box, "labels": torch.tensor([[0, 1, 1]]), "scores": torch.tensor([[0.9, 0.5, 0.49]])}
    scores = problem().score(problem().tally({**said, "boxes_valid": torch.ones(1, 3)}, true).sum(dim=0))
    # The cat: one of two found. The dog: a wrong one, and the right one is no decision. No owl is there.
    assert float(scores["f1"]) == pytest.approx((2 / 3 + 0) / 2)


def test_decisions_are_set_where_f1_is_best_on_examples_that_were_not_seen():
    toy = TOYS["detection"]
    network, (inputs, targets) = toy.network().eval(), toy.batch(64)
    with torch.inference_mode():
        said = toy.say(targets)
        # Right boxes score between 0.2 and 0.4, and a wrong one in each image 0.15.
        right = said["logits"] > 0
        said["logits"][right] = torch.linspace(-1.4, -0.4, int(right.sum()))
        said["logits"][:, 40, 0] = -1.73
        parts = [{name: value[some] for name, value in said.items()} for some in (slice(40), slice(40, 64))]
        truth = [
            {name: value[some] for name, value in targets.items()} for some in (slice(40), slice(40, 64))
        ]
        before = network(inputs)["logits"]
        assert toy.problem.set_decisions(network, parts, truth) == {"f1": 1.0}
        moved = network(inputs)["logits"] - before
        shift = float(moved.mean())
        assert moved.std() < 1e-5 and 1.4 <= shift < 1.73
        shifted = {**said, "logits": said["logits"] + shift}
        answer = toy.problem.read(shifted)
        assert float(toy.problem.score(toy.problem.tally(answer, targets).sum(dim=0))["f1"]) == 1
        assert TOYS["multiclass"].problem.set_decisions(network, [], []) == {}
        # Where no box is right, no threshold is best, and scores stay.
        nowhere = {**said, "sides": torch.full_like(said["sides"], -6.0)}
        assert toy.problem.set_decisions(network, [nowhere], [targets]) == {}
        assert torch.equal(network(inputs)["logits"] - before, moved)


def test_scores_of_many_sums_at_once_are_those_of_each():
    said, true = random_scene(np.random.default_rng(9), 40)
    tallies = problem().tally(said, true)
    sums = torch.stack([tallies[:20].sum(dim=0), tallies[20:].sum(dim=0), tallies.sum(dim=0)])
    together = problem().score(sums)
    for number in range(3):
        alone = problem().score(sums[number])
        assert all(torch.equal(together[name][number], alone[name]) for name in alone)


def test_overlaps():
    one = torch.tensor([[[0.0, 0, 2, 2]]])
    others = torch.tensor([[[0.0, 0, 2, 2], [1, 0, 3, 2], [5, 5, 6, 6], [0, 0, 4, 2]]])
    assert overlap(one, others)[0, 0].tolist() == pytest.approx([1, 1 / 3, 0, 0.5])
    assert overlap(one, others, torch.tensor([[False, False, False, True]]))[0, 0, 3] == 1
    assert generalized_overlap(one[0, 0].expand(4, 4), others[0]).tolist() == pytest.approx(
        [1, 1 / 3, 5 / 36 - 1, 0.5]
    )


def test_a_true_box_is_found_once_and_a_crowd_excuses_all():
    overlaps = torch.tensor([[[0.9, 0.0], [0.8, 0.0], [0.0, 0.7], [0.0, 0.6]]])
    possible = torch.ones(1, 4, 2, dtype=torch.bool)
    valid = torch.tensor([[PRESENT, UNDECIDED]])
    found = match(overlaps, possible, valid, torch.tensor([0.5, 0.65, 0.85]))
    assert found[0].tolist() == [
        [0, UNMATCHED, EXCUSED, EXCUSED],
        [0, UNMATCHED, EXCUSED, UNMATCHED],
        [0, UNMATCHED, UNMATCHED, UNMATCHED],
    ]


def test_repeated_boxes_do_not_count_and_of_equal_ones_the_first_does():
    anchors = lay_anchors(2, 2, (0.5, 0.5), [(0.5, 0.5)]).expand(1, -1, -1)
    logits = torch.full((1, 4, 2), -9.0)
    logits[0, 0, 0] = logits[0, 1, 0] = logits[0, 1, 1] = 2.0  # of one class at one place, but for the second
    logits[0, 3, 0] = 1.0
    sides = torch.zeros(1, 4, 4)
    sides[0, 1] = torch.tensor([3.0, 1.0, -1.0, 1.0]).clamp(min=0.01).log()
    outputs = {"logits": logits, "sides": sides, "anchors": anchors}
    boxes, classes, scores, valid = read_detections(outputs, most=4, least=0.05, most_overlap=0.25)
    assert valid[0].tolist() == [1, 1, 1, 0] and classes[0].tolist() == [0, 1, 0, 0]
    assert boxes[0, 0].tolist() == [0, 0, 0.5, 0.5] and boxes[0, 2].tolist() == [0.5, 0.5, 1, 1]
    assert scores[0].tolist() == pytest.approx([0.8808, 0.8808, 0.7311, 0], abs=1e-4)


@pytest.mark.parametrize("most_overlap", [0.3, 0.5, 0.7])
def test_what_is_suppressed_is_what_torchvision_suppresses(most_overlap: float):
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        corner, sides = (
            torch.rand(300, 2, generator=generator),
            0.1 + 0.2 * torch.rand(300, 2, generator=generator),
        )
        boxes, classes = (
            torch.cat([corner, corner + sides], dim=1),
            torch.randint(3, (300,), generator=generator),
        )
        kept = suppress(boxes[None], classes[None], torch.ones(1, 300, dtype=torch.bool), most_overlap)[0]
        theirs = batched_nms(boxes, torch.linspace(1, 0, 300), classes, most_overlap)
        assert kept.nonzero().flatten().tolist() == sorted(theirs.tolist())


def test_fitted_shapes_overlap_the_boxes_better_than_the_customary_ones():
    rng = np.random.default_rng(0)
    kinds = np.array([[0.05, 0.05], [0.08, 0.3], [0.4, 0.15], [0.5, 0.6], [0.2, 0.2], [0.1, 0.06]])
    sides = kinds[rng.integers(6, size=400)] * rng.uniform(0.95, 1.05, (400, 2))
    corner = rng.uniform(0, 0.3, (400, 2))
    columns = {
        "boxes": np.concatenate([corner, corner + sides], axis=1).reshape(100, 4, 4).astype(np.float32),
        "boxes_valid": np.full((100, 4), PRESENT, np.uint8),
    }
    asked = problem(method="ssd", anchors="fitted", cells_px=(8, 16))
    settled, said = asked.settle(columns, {"image": ImageInput(64, 96, 3)})
    found = np.array(settled.shapes).reshape(-1, 2)
    assert len(settled.shapes) == 2 and all(len(each) == 3 for each in settled.shapes)
    assert np.abs(found[found.prod(axis=1).argsort()] / kinds[kinds.prod(axis=1).argsort()] - 1).max() < 0.03
    assert "6 fitted shapes of anchors overlap the 400 training boxes by 0.9" in said[0]
    assert "and 100.0% of them by a half or more" in said[0] and "18 customary shapes" in said[1]
    assert problem().settle(columns, {}) == (problem(), [])
    with pytest.raises(ValueError, match=r"anchors = fitted: method yolo has one anchor per cell"):
        problem(anchors="fitted")
    with pytest.raises(ValueError, match=r"cells_px = \[8, 20\]: each grid must have cells twice as large"):
        problem(cells_px=(8, 20))


def test_answers_that_differ_a_little_have_a_small_gap():
    said, _ = random_scene(np.random.default_rng(2), 50)
    order = torch.arange(20).flip(0)
    turned = {name: value[:, order] for name, value in said.items()}
    assert problem().gap(said, turned).max() < 1e-9 and problem().changed(said, turned).max() == 0
    moved = {**said, "boxes": said["boxes"] + 0.001}
    assert 0 < problem().gap(said, moved).mean() < 0.05
    nothing = {name: torch.zeros_like(value) for name, value in said.items()}
    there = (said["scores"] >= 0.5).any(dim=1)
    assert (problem().changed(said, nothing)[there] == 1).all() and problem().gap(nothing, nothing).max() == 0


def test_what_is_undecided_is_neither_right_nor_wrong():
    said, true = random_scene(np.random.default_rng(4), 30)
    undecided = {**true, "boxes_valid": torch.full_like(true["boxes_valid"], UNDECIDED)}
    exact = {**said, "boxes": torch.zeros_like(said["boxes"]), "labels": torch.zeros_like(said["labels"])}
    exact["boxes"][:, :8], exact["labels"][:, :8] = true["boxes"], true["labels"]
    exact["boxes_valid"] = torch.zeros_like(said["boxes_valid"])
    exact["boxes_valid"][:, :8] = true["boxes"].abs().sum(dim=2) > 0
    assert problem().tally(exact, undecided).sum() == 0
