"""Noise that the camera or the transmission adds, independent of the content of the image."""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from temper.maths.random import normal, uniform
from temper.stress.pool import Pool, Stressed

Images = UInt8[Tensor, "batch channels height width"]
Keys = Int64[Tensor, "batch"]


def gaussian(images: Images, keys: Keys, deviation: float, *, seed: int, pool: Pool) -> Stressed:
    """Add independent Gaussian noise at every pixel and channel; `deviation` is a share of the full range."""
    field = normal(keys, images[0].numel(), seed=seed, stream="gaussian").view(images.shape)
    return Stressed((images + field * (255.0 * deviation) + 0.5).clamp(0.0, 255.0).to(torch.uint8))


def salt_and_pepper(images: Images, keys: Keys, share: float, *, seed: int, pool: Pool) -> Stressed:
    """Set a `share` of all values to black or white, each with the same probability."""
    draw = uniform(keys, images[0].numel(), seed=seed, stream="salt-and-pepper").view(images.shape)
    # Values whose draw is below the share are hit. The half of its 1/1024 in which a draw lies chooses the
    # colour, so that a larger share repeats the hits of a smaller one in the same colours.
    white = ((draw * 2048).to(torch.int32) & 1).to(torch.uint8) * 255
    return Stressed(torch.where(draw < share, white, images))
