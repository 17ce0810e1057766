import numpy as np
import pytest
import torch
from torch import Tensor

from temper.stress import illumination
from temper.stress.pool import Pool
from tests.toy import pool_of

LEVELS = pool_of(np.arange(256, dtype=np.uint8).reshape(1, 16, 16, 1))


def srgb_to_light(pixel: float) -> float:
    """Decode a pixel after IEC 61966-2-1, independently of the code under test."""
    stored = pixel / 255
    return stored / 12.92 if stored <= 0.04045 else ((stored + 0.055) / 1.055) ** 2.4


def light_to_srgb(light: float) -> int:
    light = min(max(light, 0.0), 1.0)
    return round(255 * (light * 12.92 if light <= 0.0031308 else 1.055 * light ** (1 / 2.4) - 0.055))


def both_ways(apply, strength: float, pool: Pool = LEVELS) -> tuple[Tensor, Tensor]:
    """Return the first image changed in both directions, the darker result first."""
    found = []
    for seed in range(64):
        image = pool.take(torch.tensor([0]))
        found.append(apply(image, torch.tensor([0]), strength, seed=seed, pool=pool).images[0])
    found = sorted(found, key=lambda image: float(image.double().mean()))
    return found[0], found[-1]


def test_decoding_and_encoding_every_pixel_gives_it_back():
    light = illumination._decode(illumination._LEVELS)
    assert illumination._encode(light).tolist() == list(range(256))


def test_exposure_doubles_or_halves_the_light_with_each_stop():
    dark, bright = both_ways(illumination.exposure, 2.0)
    for found, factor in ((dark, 0.25), (bright, 4.0)):
        wanted = [light_to_srgb(srgb_to_light(pixel) * factor) for pixel in range(256)]
        gaps = [abs(pixel - other) for pixel, other in zip(found.flatten().tolist(), wanted, strict=True)]
        # The table of encoded light rounds values near a half to either side.
        assert max(gaps) <= 1 and sum(gaps) <= 8


def test_gamma_is_a_power_of_the_pixel():
    dark, bright = both_ways(illumination.gamma, 1.0)
    pixels = np.arange(256) / 255
    assert np.abs(dark.flatten().numpy() - 255 * pixels**2).max() <= 0.51
    assert np.abs(bright.flatten().numpy() - 255 * pixels**0.5).max() <= 0.51


def test_contrast_draws_pixels_towards_the_mean_by_hand():
    pool = pool_of(np.array([0, 100, 200, 100], dtype=np.uint8).reshape(1, 2, 2, 1))
    found = illumination.contrast(
        pool.take(torch.tensor([0])), torch.tensor([0]), 0.5, seed=0, pool=pool
    ).images
    assert found.flatten().tolist() == [50, 100, 150, 100]


def test_low_light_is_darker_by_half_the_stops_and_as_noisy_as_photons_are():
    pool = pool_of(np.full((1, 128, 128, 1), 128, np.uint8))
    found = illumination.low_light(
        pool.take(torch.tensor([0])), torch.tensor([0]), 2.0, seed=0, pool=pool
    ).images
    light = np.array([srgb_to_light(pixel) for pixel in found.flatten().tolist()])
    wanted = srgb_to_light(128) / 4
    deviation = (wanted * illumination.FULL_WELL + illumination.READ_NOISE**2) ** 0.5 / illumination.FULL_WELL
    assert light.mean() == pytest.approx(2 * wanted, rel=0.02)
    assert light.std() == pytest.approx(2 * deviation, rel=0.05)


def test_shadow_takes_its_share_of_the_light_on_one_side_and_none_on_the_other():
    pool = pool_of(np.full((1, 32, 32, 1), 200, np.uint8))
    found = illumination.shadow(
        pool.take(torch.tensor([0])), torch.tensor([0]), 0.75, seed=0, pool=pool
    ).images
    assert int(found.max()) == 200
    assert int(found.min()) == light_to_srgb(srgb_to_light(200) * 0.25)


def test_warm_light_is_redder_cold_light_bluer_and_grey_as_bright():
    pool = pool_of(np.full((1, 4, 4, 3), 128, np.uint8))
    found = [
        illumination.colour_temperature(
            pool.take(torch.tensor([0])), torch.tensor([0]), 100.0, seed=seed, pool=pool
        ).images
        for seed in range(16)
    ]
    colours = {tuple(image[0, :, 0, 0].tolist()) for image in found}
    assert len(colours) == 2
    warm, cold = sorted(colours, key=lambda colour: colour[2])
    assert warm[0] > 128 > warm[2] and cold[2] > 128 > cold[0]
    for colour in (warm, cold):
        red, green, blue = map(srgb_to_light, colour)
        assert 0.2126 * red + 0.7152 * green + 0.0722 * blue == pytest.approx(srgb_to_light(128), rel=0.02)


def test_daylight_lies_where_the_planckian_locus_has_it():
    # CIE: a black body of 6504 K has x = 0.3134, y = 0.3237; its linear sRGB is almost neutral, a bit pink.
    red, green, blue = illumination._lamp(0.0).tolist()
    assert (red, green, blue) == pytest.approx((1.03, 0.98, 1.01), abs=0.05)
