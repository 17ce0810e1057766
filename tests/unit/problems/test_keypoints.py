"""Points of one object: scores are those of their definitions, and wrong data name the way out."""

import contextlib
import io
import json
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from temper.fields import PRESENT, UNDECIDED, Frame
from temper.maths.geometry import as_seen, as_sent, move
from temper.maths.heatmaps import point_loss, read_points
from temper.problem import Row
from temper.problems.keypoints import Keypoints

FRAME = Frame(height_px=50, width_px=200)
EYES = ("left eye", "right eye", "nose")


def row_of(places: Mapping[str, list[float] | None]) -> Row:
    return Row("x", "x.png", truth=json.dumps({"points": places}))


def batch_of(problem: Keypoints, places: Mapping[str, list[float] | None]) -> dict[str, torch.Tensor]:
    packed = problem.pack(row_of(places), {}, FRAME)
    return {name: torch.from_numpy(np.asarray(value)[None]) for name, value in packed.items()}


def test_correct_points_and_similarity_are_measured_in_pixels_of_the_sent_image():
    problem = Keypoints(kind="keypoints", points=EYES, within=0.1, falloff=0.2)
    targets = batch_of(problem, {"left eye": [20.0, 10.0], "right eye": [120.0, 10.0], "nose": [70.0, 40.0]})
    off = np.array([[29.0, 10.0], [120.0, 21.0], [70.0, 40.0]]) / (200, 50)
    answer = {"points": torch.from_numpy(off[None]), "confidence": torch.ones(1, 3)}
    scores = problem.score(problem.tally(answer, targets).sum(dim=0))
    # 9 px and 0 px are within a tenth of the box's longer side, which is 100 px; 11 px are not.
    assert tuple(scores) == problem.scores
    assert float(scores["pck"]) == pytest.approx(2 / 3)
    assert [float(scores[f"pck_{name}"]) for name in EYES] == [1, 0, 1]
    # COCO: the mean of exp(-d^2 / (2 area k^2)), with 0.53 of the box as the area.
    area = 0.53 * 100 * 30
    alike = np.exp(-(np.array([9.0, 11.0, 0.0]) ** 2) / (2 * area * 0.2**2)).mean()
    assert float(scores["oks"]) == pytest.approx(alike, rel=1e-6)
    assert float(problem.error(answer, targets)) == pytest.approx(1 - alike, rel=1e-6)


def test_a_point_that_is_not_known_is_neither_right_nor_wrong():
    problem = Keypoints(kind="keypoints", points=EYES)
    targets = batch_of(problem, {"left eye": [20.0, 10.0], "right eye": None, "nose": [70.0, 40.0]})
    assert targets["points_valid"].tolist() == [[PRESENT, UNDECIDED, PRESENT]]
    right = {"points": targets["points"].double(), "confidence": torch.ones(1, 3)}
    for moved in (0.0, 0.4):
        right["points"][0, 1] = moved
        scores = problem.score(problem.tally(right, targets).sum(dim=0))
        assert (scores["pck"], scores["oks"]) == (1, 1)
    outputs = {"heat": torch.randn(1, 3, 4, 5), "offset": torch.randn(1, 3, 2, 4, 5)}
    loss = problem.loss(outputs, targets)
    outputs["heat"][0, 1] += torch.randn(4, 5)
    assert torch.equal(loss, problem.loss(outputs, targets))


def test_a_mirror_exchanges_left_and_right_as_their_names_say():
    problem = Keypoints(kind="keypoints", points=EYES)
    assert problem.truth["points"].mirrored == (1, 0, 2)
    given = Keypoints(kind="keypoints", points=("a", "b", "c"), mirrored={"a": "c"})
    assert given.truth["points"].mirrored == (2, 1, 0)
    targets = batch_of(problem, {"left eye": [20.0, 10.0], "right eye": None, "nose": [70.0, 40.0]})
    flipped = move(targets, problem.truth, torch.tensor([[-1.0, 1.0]]), torch.tensor([[1.0, 0.0]]))
    assert flipped["points_valid"].tolist() == [[UNDECIDED, PRESENT, PRESENT]]
    torch.testing.assert_close(flipped["points"][0, 1:], torch.tensor([[0.9, 0.2], [0.65, 0.8]]))


@pytest.mark.parametrize(
    ("places", "fields", "message"),
    [
        (
            {"left eye": [1.0, 2.0], "nose": [3.0, 4.0]},
            {},
            r"'left eye' has no counterpart.*problem\.mirrored",
        ),
        ({"nose": None}, {}, r"no image gives the point 'nose'"),
        ({"nose": [3.0, 4.0]}, {"points": ("nose", "tail")}, r"no point 'tail'.*ingest\.points"),
    ],
)
def test_data_that_cannot_be_right_name_the_way_out(places, fields, message):
    with pytest.raises(ValueError, match=message):
        Keypoints(kind="keypoints", **fields).bind([row_of(places)] * 3)


def test_settings_that_cannot_be_right_name_the_way_out():
    with pytest.raises(ValueError, match="'c', which is no point"):
        Keypoints(kind="keypoints", points=("a", "b"), mirrored={"a": "c"})
    with pytest.raises(ValueError, match="a point twice"):
        Keypoints(kind="keypoints", points=("a", "b"), mirrored={"a": "b", "b": "a"})


def test_a_place_outside_its_image_is_refused_with_the_place_and_the_size():
    with pytest.raises(ValueError, match=r"\(60, 240\) is outside the image of 200x50 px.*ingest\.boxes_in"):
        as_seen(np.array([60.0, 240.0]), FRAME)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_places_turn_with_their_image(orientation: int):
    """A bright pixel of the stored image is where its place is in the upright one."""
    from PIL import Image

    from temper.data.images.orientation import turn

    stored = np.zeros((5, 8), np.uint8)
    stored[1, 6] = 255
    upright = np.asarray(turn(Image.fromarray(stored), orientation))
    down, across = np.argwhere(upright == 255)[0]
    frame = Frame(*upright.shape, orientation=orientation)
    places = as_sent(as_seen(np.array([6.5, 1.5]), frame), Frame(*upright.shape))
    assert places.tolist() == [pytest.approx(across + 0.5), pytest.approx(down + 0.5)]


def test_a_heat_map_of_the_truth_has_no_loss_and_reads_as_the_truth():
    places = torch.tensor([[[0.33, 0.71], [0.0, 1.0]]])
    height, width = 6, 8
    cells = places * torch.tensor([width, height])
    grid = torch.stack(
        torch.meshgrid(torch.arange(6) + 0.5, torch.arange(8) + 0.5, indexing="ij")[::-1], dim=-1
    )
    apart = cells[:, :, None, None] - grid
    heat = -apart.square().sum(-1) / (2 * 0.7**2)
    offset = apart.movedim(-1, 2)
    assert point_loss(heat, offset, places).abs().max() < 1e-5
    assert (point_loss(heat + torch.randn(heat.shape), offset, places) > 1e-3).all()
    torch.testing.assert_close(read_points(heat, offset)[0], places)


def test_similarity_is_that_of_coco() -> None:
    rng, names, side = np.random.default_rng(0), tuple("abcde"), 100
    problem = Keypoints(kind="keypoints", points=names, falloff=0.15)
    count = 60
    places = rng.uniform(10, 90, (count, len(names), 2))
    known = rng.random((count, len(names))) < 0.8
    known[:, :2], places[:, 0], places[:, 1] = True, (5, 5), (95, 95)  # the box is never flat
    said = (places + rng.normal(0, 6, places.shape)).clip(0, side)
    targets = {
        "points": torch.from_numpy(places / side),
        "points_valid": torch.from_numpy(np.where(known, PRESENT, UNDECIDED)),
        "aspect": torch.ones(count),
    }
    answer = {"points": torch.from_numpy(said / side), "confidence": torch.ones(count, len(names))}
    ours = 1 - problem.error(answer, targets)

    def flat(points: np.ndarray, visible: np.ndarray) -> list[float]:
        return np.concatenate([points, visible[:, None]], axis=1).ravel().tolist()

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = {"images": [{"id": i} for i in range(count)], "categories": [{"id": 1, "name": "x"}]}
        coco.dataset["annotations"] = [
            {
                "id": i + 1,
                "image_id": i,
                "category_id": 1,
                "keypoints": flat(places[i], 2.0 * known[i]),
                "num_keypoints": int(known[i].sum()),
                "bbox": [5, 5, 90, 90],
                "area": 0.53 * 90 * 90,
                "iscrowd": 0,
            }
            for i in range(count)
        ]
        coco.createIndex()
        found = [
            {"image_id": i, "category_id": 1, "keypoints": flat(said[i], np.ones(len(names))), "score": 1.0}
            for i in range(count)
        ]
        evaluation = COCOeval(coco, coco.loadRes(found), "keypoints")
        evaluation.params.kpt_oks_sigmas = np.full(len(names), problem.falloff / 2)
        evaluation.evaluate()
    theirs = [float(evaluation.ious[i, 1][0, 0]) for i in range(count)]
    np.testing.assert_allclose(ours.numpy(), theirs, atol=1e-6)
    assert 0.1 < np.mean(theirs) < 0.9


def test_a_letter_for_the_side_makes_a_pair_too():
    names = ("l_eye", "r_eye", "nose", "ear.L", "ear.R", "lip", "rim")
    bound = Keypoints(kind="keypoints", points=names)
    assert bound.truth["points"].mirrored == (1, 0, 2, 4, 3, 5, 6)
    row = Row("x", "x", truth=json.dumps({"points": {"l_eye": [1, 1], "nose": [2, 2]}}))
    with pytest.raises(ValueError, match=r"l_eye.*r_eye|problem.mirrored"):
        Keypoints(kind="keypoints", points=("l_eye", "nose")).bind([row, row])
