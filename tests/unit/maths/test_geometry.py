"""Boxes and points follow their image, whatever moves it: a box round the foreground still encloses it."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from temper.data.augmentation.albumentations_policy import apply, compose
from temper.data.loading.loader import Examples, TrainLoader
from temper.data.loading.params import ViewParams
from temper.data.loading.prefetch import Stream
from temper.fields import ABSENT, PRESENT, UNDECIDED, Field
from temper.inputs.image_input import ImageInput
from temper.maths.geometry import crop_of, hide, mirror_of, move

HEIGHT, WIDTH, MARGIN = 24, 32, 4
TRUTH = {"boxes": Field("boxes"), "joints": Field("points", mirrored=(1, 0, 2))}
JOINTS = 3
"""Left, right and middle of a subject: the left, right and upper end of its rectangle."""


@st.composite
def rectangles(draw: Any, count: int = 4) -> list[tuple[int, int, int, int]]:
    """Left, top, right and bottom of bright rectangles, in pixels, at some distance from the edges."""
    found = []
    for _ in range(count):
        left = draw(st.integers(MARGIN, WIDTH - MARGIN - 6))
        top = draw(st.integers(MARGIN, HEIGHT - MARGIN - 6))
        right = draw(st.integers(left + 5, WIDTH - MARGIN))
        bottom = draw(st.integers(top + 5, HEIGHT - MARGIN))
        found.append((left, top, right, bottom))
    return found


def make_columns(places: list[tuple[int, int, int, int]]) -> dict[str, np.ndarray]:
    """Images with one bright rectangle each, its box (and a padded one), and its joints."""
    count, size = len(places), np.array([WIDTH, HEIGHT], np.float32)
    columns = {
        "image": np.zeros((count, HEIGHT, WIDTH, 1), np.uint8),
        "boxes": np.zeros((count, 2, 4), np.float32),
        "boxes_valid": np.zeros((count, 2), np.int64),
        "joints": np.zeros((count, JOINTS, 2), np.float32),
        "joints_valid": np.ones((count, JOINTS), np.int64),
    }
    for number, (left, top, right, bottom) in enumerate(places):
        columns["image"][number, top:bottom, left:right] = 255
        columns["boxes"][number, 0] = np.array([left, top, right, bottom]) / [*size, *size]
        columns["boxes_valid"][number, 0] = PRESENT
        middle = (top + bottom) / 2
        columns["joints"][number] = [(left, middle), (right, middle), ((left + right) / 2, top)] / size
    return columns


def assert_enclosed(columns: Mapping[str, Any], *, slack_px: float = 0.0) -> None:
    """Assert that each box is as close round what is bright as `slack_px`, and that its joints are on it."""
    for number, image in enumerate(np.asarray(columns["image"])):
        if image.shape[0] == 1:
            image = image.transpose(1, 2, 0)
        height, width = image.shape[:2]
        lines, across = np.nonzero(image[..., 0] > 127)
        valid = int(columns["boxes_valid"][number][0])
        if not len(lines):
            assert valid != PRESENT
            continue
        seen = np.array([across.min(), lines.min(), across.max() + 1, lines.max() + 1])
        box = np.asarray(columns["boxes"][number][0]) * [width, height, width, height]
        assert np.abs(box - seen).max() <= slack_px + 1e-3, (box, seen)
        joints = np.asarray(columns["joints"][number]) * [width, height]
        if (np.asarray(columns["joints_valid"][number]) == PRESENT).all():
            assert np.abs(np.sort(joints[:2, 0]) - seen[[0, 2]]).max() <= slack_px + 1e-3
            assert np.abs(joints[2, 1] - seen[[1, 3]]).min() <= slack_px + 1e-3


def load(columns: dict[str, np.ndarray], views: ViewParams, *, epoch: int, streamed: bool) -> list[Any]:
    count = len(columns["image"])
    examples = Examples(
        np.ones(count, int), np.ones(count), {"image": ImageInput(8, 8, 1, mean=(0.0,))}, TRUTH
    )
    stream, kept = None, dict(columns)
    if streamed:
        moving = {name: kept.pop(name) for name in sorted(kept.keys() - {"image"})}
        stream = Stream("image", kept.pop("image"), moving, TRUTH, views, seed=5, workers=1)
    loader = TrainLoader(
        {name: torch.from_numpy(column) for name, column in kept.items()},
        examples,
        batch_size=2,
        device=torch.device("cpu"),
        views=views,
        seed=5,
        stream=stream,
    )
    return [{"image": batch.inputs["image"], **batch.targets} for batch in loader.batches(epoch)]


@given(places=rectangles(), epoch=st.integers(0, 3), flip=st.booleans(), crop_px=st.integers(0, MARGIN - 1))
@settings(max_examples=30, deadline=None)
@pytest.mark.parametrize("streamed", [False, True])
def test_flips_and_shifts(
    places: list[tuple[int, int, int, int]], epoch: int, flip: bool, crop_px: int, streamed: bool
):
    views = ViewParams(flip=flip, crop_px=crop_px)
    for batch in load(make_columns(places), views, epoch=epoch, streamed=streamed):
        assert_enclosed(batch)
        left, right = (batch["joints"][:, number, 0] for number in (0, 1))
        assert (left < right).all(), "in a mirror the right end becomes the left one"


@given(places=rectangles(), epoch=st.integers(0, 3), flip=st.booleans())
@settings(max_examples=30, deadline=None)
def test_resized_crops(places: list[tuple[int, int, int, int]], epoch: int, flip: bool):
    views = ViewParams(flip=flip, crop_scale=(0.3, 1.0))
    for batch in load(make_columns(places), views, epoch=epoch, streamed=True):
        assert_enclosed(batch, slack_px=1.0)


POLICIES = (
    [{"name": "HorizontalFlip", "p": 1.0}],
    [{"name": "VerticalFlip", "p": 1.0}],
    [{"name": "Rotate", "limit": [180, 180], "p": 1.0, "border_mode": 0}],
    [{"name": "Affine", "scale": [0.7, 1.2], "translate_percent": [-0.1, 0.1], "p": 1.0}],
    [{"name": "RandomResizedCrop", "size": [HEIGHT, WIDTH], "scale": [0.4, 1.0], "p": 1.0}],
    [{"name": "HorizontalFlip", "p": 0.5}, {"name": "GaussNoise", "std_range": [0.01, 0.02], "p": 1.0}],
)


@given(places=rectangles(1), seed=st.integers(0, 1000))
@settings(max_examples=20, deadline=None)
@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy[0]["name"])
def test_policies(policy: list[dict[str, Any]], places: list[tuple[int, int, int, int]], seed: int):
    example = {name: column[0] for name, column in make_columns(places).items()}
    made = apply(compose(policy, TRUTH, "x"), example, TRUTH, seed, "x", picture="image")
    assert_enclosed({name: value[None] for name, value in made.items()}, slack_px=1.2)


def test_a_policy_that_repeats_the_image_at_its_edges_is_refused():
    example = {name: column[0] for name, column in make_columns([(8, 8, 16, 16)]).items()}
    policy = [{"name": "Affine", "translate_percent": [0.4, 0.4], "border_mode": 4, "p": 1.0}]
    with pytest.raises(ValueError, match="boxes and points occur twice; set border_mode to 0"):
        apply(compose(policy, TRUTH, "x"), example, TRUTH, 1, "x", picture="image")


@given(places=rectangles())
@settings(max_examples=20, deadline=None)
def test_mirrored_twice_is_unmoved(places: list[tuple[int, int, int, int]]):
    columns = {name: torch.from_numpy(column) for name, column in make_columns(places).items()}
    fields = {**TRUTH, "hand": Field(names=("left", "right", "none"), mirrored=(1, 0, 2))}
    columns["hand"] = torch.tensor([0, 1, 2, 0])
    flip = mirror_of(torch.tensor([True, True, True, False]))
    once = move(columns, fields, *flip)
    assert once["hand"].tolist() == [1, 0, 2, 0]
    assert torch.equal(once["boxes"][3], columns["boxes"][3])
    twice = move(once, fields, *flip)
    for name, column in columns.items():
        assert torch.allclose(twice[name].double(), column.double(), atol=1e-6), name


def test_numpy_and_torch_agree():
    columns = make_columns([(6, 6, 14, 12), (10, 8, 20, 18)])
    scale, offset = (
        np.array([[-1.5, 2.0], [1.0, 1.0]], np.float32),
        np.array([[1.2, -0.3], [0.1, 0]], np.float32),
    )
    by_numpy = move(columns, TRUTH, scale, offset)
    tensors = {name: torch.from_numpy(column) for name, column in columns.items()}
    by_torch = move(tensors, TRUTH, torch.from_numpy(scale), torch.from_numpy(offset))
    for name in columns:
        np.testing.assert_allclose(by_numpy[name], by_torch[name].numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("crop", "state"),
    [
        ((0, 0, 24, 32), PRESENT),
        ((0, 12, 24, 20), PRESENT),
        ((0, 15, 24, 17), UNDECIDED),
        ((0, 20, 4, 8), ABSENT),
    ],
)
def test_what_is_left_of_a_box(crop: tuple[int, int, int, int], state: int):
    columns = make_columns([(6, 6, 16, 12)])
    assert move(columns, TRUTH, *crop_of(crop, (HEIGHT, WIDTH)))["boxes_valid"][0].tolist() == [state, ABSENT]


@pytest.mark.parametrize(("covered", "state"), [(0, PRESENT), (7, PRESENT), (8, UNDECIDED), (10, UNDECIDED)])
def test_what_is_hidden_is_undecided(covered: int, state: int):
    columns = {name: torch.from_numpy(column) for name, column in make_columns([(6, 6, 16, 12)]).items()}
    hidden = torch.zeros(1, HEIGHT, WIDTH, dtype=torch.bool)
    hidden[0, :, 6 : 6 + covered] = True
    found = hide(columns, TRUTH, hidden)
    assert found["boxes_valid"][0].tolist() == [state, ABSENT]
    assert found["joints_valid"][0].tolist() == [
        UNDECIDED if covered else PRESENT,
        PRESENT,
        UNDECIDED if covered > 5 else PRESENT,
    ]
    assert hide({"label": torch.zeros(1)}, {"label": Field()}, hidden)["label"] == 0
