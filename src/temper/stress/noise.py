"""Noise that the camera or the wire adds, blind to what is shown."""

import torch
from jaxtyping import Int64, UInt8
from torch import Tensor

from temper.maths.random import normal, uniform
from temper.stress.image_pool import ImagePool

Images = UInt8[Tensor, "batch channels height width"]
Keys = Int64[Tensor, "batch"]


def gaussian(images: Images, keys: Keys, deviation: float, *, seed: int, pool: ImagePool) -> Images:
    """Independent Gaussian noise at every pixel and channel; `deviation` in units of the full range."""
    field = normal(keys, images[0].numel(), seed=seed, stream="gaussian").view(images.shape)
    return (images + field * (255.0 * deviation) + 0.5).clamp(0.0, 255.0).to(torch.uint8)


def salt_and_pepper(images: Images, keys: Keys, share: float, *, seed: int, pool: ImagePool) -> Images:
    """A `share` of all values flips to black or white, as often the one as the other."""
    draw = uniform(keys, images[0].numel(), seed=seed, stream="salt-and-pepper").view(images.shape)
    # The draws below the share are hit; halves of each 1/1024 of them make the coin, so that hits at growing shares nest.
    white = ((draw * 2048).to(torch.int32) & 1).to(torch.uint8) * 255
    return torch.where(draw < share, white, images)
