"""The test images, fetched by number: the images to stress, and the donors of foreign patches."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor


class Stressed(NamedTuple):
    """What a condition made of images. It says what it did, and not what is true now."""

    images: UInt8[Tensor, "batch channels height width"]
    hidden: Bool[Tensor, "batch height width"] | None = None
    """Pixels of which nothing is left; None if there are none."""


@dataclass(frozen=True)
class ImagePool:
    """Packed images; the key of an image is its number in the split."""

    packed: np.ndarray
    """uint8 [images, height, width, channels]; may be memory-mapped from a file."""

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def channels(self) -> int:
        """Number of channels: 1 for grey, 3 for colour."""
        return int(self.packed.shape[3])

    def take(self, keys: Int64[Tensor, "batch"]) -> UInt8[Tensor, "batch channels height width"]:
        """Return some images with channels first, as conditions expect them."""
        # `serve` copies, so a read-only mapping never reaches torch.
        return torch.from_numpy(self.serve(keys)).permute(0, 3, 1, 2).contiguous()

    def serve(self, keys: Int64[Tensor, "batch"]) -> np.ndarray:
        """Return copies of images as a deployed file takes them: uint8 [batch, height, width, channels]."""
        return self.packed[keys.numpy()]


def as_served(images: UInt8[Tensor, "batch channels height width"]) -> np.ndarray:
    """Convert images to the form that a deployed file takes: uint8 [batch, height, width, channels]."""
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
