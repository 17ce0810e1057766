"""Laws of every stress condition."""

import inspect
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from torch import Tensor

from temper.fields import Field
from temper.stress.conditions import CONDITIONS, SEVERITIES, Condition, applicable, stress
from temper.stress.params import NAMES, EvaluateParams
from temper.stress.pool import Pool
from tests.toy import pool_of

SIZES = {1: (28, 28), 3: (20, 33)}


def make_pool(channels: int) -> Pool:
    """Make images of smooth shapes on a noisy background, from black to white, and a box round each."""
    rng = np.random.default_rng(channels)
    height, width = SIZES[channels]
    images = rng.integers(0, 60, (64, height, width, channels))
    rows, columns = np.mgrid[:height, :width]
    boxes = torch.zeros(64, 2, 4)
    for image, box in zip(images, boxes, strict=True):
        centre, radius = rng.uniform(0.3, 0.7, 2) * (height, width), rng.uniform(4, 9)
        inside = (rows - centre[0]) ** 2 + (columns - centre[1]) ** 2 < radius**2
        image[inside] += rng.integers(60, 195, channels)
        ends = np.array([*(centre - radius), *(centre + radius)])[[1, 0, 3, 2]]
        box[0] = torch.from_numpy((ends / [width, height, width, height]).clip(0, 1))
    images[0] = 0
    images[1] = 255
    return pool_of(images.astype(np.uint8), boxes)


POOLS = {channels: make_pool(channels) for channels in SIZES}
CASES = [
    pytest.param(condition, POOLS[channels], id=f"{condition.name}, {channels} channels")
    for condition in CONDITIONS
    for channels in condition.channels
]
KEYS = torch.arange(64)
WITHOUT_CHANCE = {"contrast"}
"""Conditions whose effect on an image does not depend on the seed."""
every_condition = pytest.mark.parametrize(("condition", "pool"), CASES)


def under(condition: Condition, pool: Pool, severity: int, keys: Tensor = KEYS, seed: int = 0) -> Tensor:
    return stress(condition, pool.take(keys), keys=keys, severity=severity, seed=seed, pool=pool).images


@every_condition
def test_severity_0_changes_nothing(condition: Condition, pool: Pool):
    assert torch.equal(under(condition, pool, 0), pool.take(KEYS))


@every_condition
@pytest.mark.parametrize("severity", SEVERITIES)
def test_same_seed_and_key_give_the_same_image_in_any_batch(condition: Condition, pool: Pool, severity: int):
    whole = under(condition, pool, severity)
    assert torch.equal(under(condition, pool, severity), whole)
    for keys in (KEYS[:1], KEYS[5:18], KEYS[[40, 3, 11]], KEYS.flip(0)):
        assert torch.equal(under(condition, pool, severity, keys), whole[keys])


@every_condition
def test_damage_grows_with_severity(condition: Condition, pool: Pool):
    clean = pool.take(KEYS).double()
    damage = [
        float((under(condition, pool, severity).double() - clean).abs().mean())
        for severity in (0, *SEVERITIES)
    ]
    assert all(less < more for less, more in pairwise(damage)), damage


@every_condition
def test_range_type_and_shape_stay_and_the_input_is_left_alone(condition: Condition, pool: Pool):
    clean = pool.take(KEYS)
    found = stress(condition, clean, keys=KEYS, severity=5, seed=0, pool=pool).images
    assert found.dtype == torch.uint8 and found.shape == clean.shape
    assert torch.equal(clean, pool.take(KEYS))


@every_condition
def test_another_seed_gives_other_images_where_chance_plays_a_part(condition: Condition, pool: Pool):
    same = torch.equal(under(condition, pool, 3, seed=0), under(condition, pool, 3, seed=1))
    assert same == (condition.name in WITHOUT_CHANCE)


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_records_are_complete(condition: Condition):
    assert all(less < more for less, more in pairwise(condition.strengths))
    assert condition.unit and inspect.getdoc(condition.apply)


@every_condition
def test_a_condition_says_which_pixels_it_hides(condition: Condition, pool: Pool):
    """Occlusion leaves all pixels as they are that it does not hide; other families hide none."""
    clean = pool.take(KEYS)
    found = stress(condition, clean, keys=KEYS, severity=3, seed=0, pool=pool)
    assert (found.hidden is not None) == (condition.family == "occlusion")
    if found.hidden is not None:
        seen = ~found.hidden[:, None].expand_as(clean)
        assert torch.equal(found.images[seen], clean[seen]) and found.hidden.any()


def test_names_are_unique_and_families_are_those_of_the_parameters():
    from typing import get_args, get_type_hints

    names = [condition.name for condition in CONDITIONS]
    assert len(set(names)) == len(names)
    (literal, _) = get_args(get_type_hints(EvaluateParams)["families"])
    assert {condition.family for condition in CONDITIONS} == set(get_args(literal))
    pairs = [(condition.family, condition.name) for condition in CONDITIONS]
    assert [(family, name) for family, named in NAMES.items() for name in named] == pairs


def test_grey_images_have_no_colour_temperature():
    families = ("occlusion", "illumination", "noise")
    grey, colour = (applicable(families, POOLS[channels]) for channels in (1, 3))
    assert {item.name for item in colour} - {item.name for item in grey} == {"colour temperature"}
    assert applicable((), POOLS[3]) == ()


@pytest.mark.parametrize("channels", SIZES)
@pytest.mark.parametrize("boxes", [True, False])
def test_the_parameters_name_what_is_measured(channels: int, boxes: bool):
    """Covers on objects are left out where the truth has no boxes."""
    families = ("occlusion", "illumination", "noise")
    pool = POOLS[channels]
    measured = applicable(families, pool if boxes else replace(pool, boxes=None))
    truth = {"boxes": Field("boxes")} if boxes else {"label": Field()}
    named = EvaluateParams(families=families).conditions(channels=channels, truth=truth)
    assert [name for names in named.values() for name in names] == [item.name for item in measured]
    assert any(item.on_objects for item in measured) == boxes


@pytest.mark.parametrize("severity", [-1, 6])
def test_other_severities_are_refused(severity: int):
    with pytest.raises(ValueError, match="from 0 to 5"):
        under(CONDITIONS[0], POOLS[1], severity)
