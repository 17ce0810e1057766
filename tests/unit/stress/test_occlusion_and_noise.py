import numpy as np
import pytest
import torch

from temper.stress import noise, occlusion
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
