from dataclasses import replace

import numpy as np
import pytest
import torch

from temper.fields import ABSENT, PRESENT, UNDECIDED, Field
from temper.maths.geometry import hide
from temper.stress import noise, occlusion
from temper.stress.pool import boxes_of
from tests.toy import pool_of

KEYS = torch.arange(400)
# A cover is unlikely to have this grey, so covered pixels are those that changed.
GREY = pool_of(np.full((400, 28, 28, 1), 128, np.uint8))


@pytest.mark.parametrize("apply", [occlusion.patch, occlusion.grid, occlusion.stripes])
@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.45, 0.6])
def test_covers_the_stated_share_in_one_colour(apply, share: float):
    found = apply(GREY.take(KEYS), KEYS, share, seed=0, pool=GREY).images
    covered = found != 128
    seen = covered.flatten(1).any(dim=1)
    assert float(covered[seen].double().mean()) == pytest.approx(share, abs=0.02)
    for image, where in zip(found, covered, strict=True):
        assert len(image[where].unique()) <= 1


def test_covers_of_growing_share_lie_inside_one_another():
    for apply in (occlusion.patch, occlusion.grid, occlusion.stripes):
        small, large = (
            apply(GREY.take(KEYS), KEYS, share, seed=0, pool=GREY).images != 128 for share in (0.2, 0.45)
        )
        lost = (small & ~large).double().sum() / small.double().sum()
        assert float(lost) < 0.05  # The corners of rectangles are rounded to whole pixels.


def test_a_foreign_patch_comes_from_the_same_place_of_another_image():
    pool = pool_of(np.arange(50, dtype=np.uint8)[:, None, None, None].repeat(20, 1).repeat(20, 2))
    keys = torch.arange(50)
    found = occlusion.foreign_patch(pool.take(keys), keys, 0.3, seed=0, pool=pool).images
    for key, image in enumerate(found):
        donors = set(image.unique().tolist()) - {key}
        assert len(donors) == 1, "exactly one other image lends the patch"
        assert float((image != key).double().mean()) == pytest.approx(0.3, abs=0.01)


def test_a_pool_of_one_lends_to_itself():
    pool = pool_of(np.full((1, 8, 8, 1), 7, np.uint8))
    keys = torch.tensor([0])
    assert torch.equal(
        occlusion.foreign_patch(pool.take(keys), keys, 0.3, seed=0, pool=pool).images, pool.take(keys)
    )


OBJECTS = pool_of(
    np.full((400, 28, 28, 1), 128, np.uint8),
    torch.tensor([[[2, 3, 12, 18], [16, 14, 26, 26], [0, 0, 0, 0]]]).expand(400, -1, -1) / 28,
)
"""Grey images of two objects each, and room for a third."""


@pytest.mark.parametrize("apply", [occlusion.patch_on_objects, occlusion.foreign_patch_on_objects])
def test_each_object_is_covered_by_the_stated_share_and_nothing_else_is(apply):
    smaller = torch.zeros(400, 28, 28, dtype=torch.bool)
    for share in (0.2, 0.4, 0.6):
        hidden = apply(OBJECTS.take(KEYS), KEYS, share, seed=0, pool=OBJECTS).hidden
        first, second = hidden[:, 3:18, 2:12], hidden[:, 14:26, 16:26]
        for part in (first, second):
            assert float(part.double().mean()) == pytest.approx(share, abs=0.02)
            shares = part.double().mean(dim=(1, 2))
            assert float((shares - share).abs().max()) < 0.15, "rounded to whole pixels"
        assert int(hidden.sum()) == int(first.sum() + second.sum()), "nothing beside the boxes"
        assert first[:, 0].any() and first[:, :, 0].any() and first[:, -1].any() and first[:, :, -1].any()
        assert not torch.equal(first[:1].expand(400, -1, -1), first), "the place depends on the image"
        assert (hidden | ~smaller).all(), "smaller covers lie inside larger ones"
        smaller = hidden


def test_covers_on_objects_have_one_colour_or_are_another_image():
    shades = np.arange(50, dtype=np.uint8)[:, None, None, None].repeat(28, 1).repeat(28, 2)
    pool, keys = pool_of(shades, OBJECTS.boxes[:50]), torch.arange(50)
    for apply in (occlusion.patch_on_objects, occlusion.foreign_patch_on_objects):
        found = apply(pool.take(keys), keys, 0.4, seed=0, pool=pool)
        for image, hidden, key in zip(found.images, found.hidden, keys.tolist(), strict=True):
            assert len(image[0][hidden].unique()) == 1 and (image[0][~hidden] == key).all()


def test_what_a_cover_hides_of_another_object_counts():
    """A small object inside a large one is hidden by the cover of the large one, on some images wholly."""
    boxes = torch.tensor([[[0, 0, 28, 28], [2, 2, 6, 6]]]).expand(400, -1, -1) / 28
    pool = replace(OBJECTS, boxes=boxes)
    hidden = occlusion.patch_on_objects(pool.take(KEYS), KEYS, 0.4, seed=0, pool=pool).hidden
    truth = {"boxes": boxes, "boxes_valid": torch.full((400, 2), PRESENT)}
    valid = hide(truth, {"boxes": Field("boxes")}, hidden)["boxes_valid"]
    assert (valid[:, 0] == PRESENT).all(), "four tenths are less than three quarters"
    wholly = hidden[:, 2:6, 2:6].all(dim=(1, 2))
    assert (valid[wholly, 1] == UNDECIDED).all() and 20 < int(wholly.sum()) < 350
    assert (valid[:, 1] == PRESENT).any()


def test_only_boxes_that_count_are_covered():
    truth = {
        "boxes": torch.tensor([[[0.0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0.0, 0.5, 0.5, 1]]]),
        "boxes_valid": torch.tensor([[PRESENT, UNDECIDED, ABSENT]]),
    }
    fields = {"boxes": Field("boxes"), "labels": Field("sequence")}
    found = boxes_of(truth, fields)
    assert found.tolist() == [[[0, 0, 0.5, 0.5], [0] * 4, [0] * 4]]
    assert boxes_of({"label": torch.tensor([1])}, {"label": Field()}) is None


def test_gaussian_noise_has_the_stated_deviation():
    found = noise.gaussian(GREY.take(KEYS), KEYS, 0.08, seed=0, pool=GREY).images.double() - 128
    assert float(found.mean()) == pytest.approx(0, abs=0.2)
    assert float(found.std()) == pytest.approx(0.08 * 255, rel=0.01)


def test_salt_and_pepper_hits_the_stated_share_half_white_half_black():
    found = noise.salt_and_pepper(GREY.take(KEYS), KEYS, 0.09, seed=0, pool=GREY).images
    white, black = (found == 255).double().mean(), (found == 0).double().mean()
    assert float(white) == pytest.approx(0.045, abs=0.002)
    assert float(black) == pytest.approx(0.045, abs=0.002)
    more = noise.salt_and_pepper(GREY.take(KEYS), KEYS, 0.27, seed=0, pool=GREY).images
    hit = found != 128
    assert torch.equal(more[hit], found[hit])
