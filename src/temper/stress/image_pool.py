"""The test images, fetched by number: what is stressed, and where foreign patches come from."""

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Int64, UInt8
from torch import Tensor


@dataclass(frozen=True)
class ImagePool:
    """Packed images; an image's number in the split is its key."""

    packed: np.ndarray
    """uint8 [images, height, width, channels]; may be mapped from a file."""

    def __len__(self) -> int:
        return len(self.packed)

    @property
    def channels(self) -> int:
        """1 for grey, 3 for colour."""
        return int(self.packed.shape[3])

    def take(self, keys: Int64[Tensor, "batch"]) -> UInt8[Tensor, "batch channels height width"]:
        """Some images, channels first, as conditions want them."""
        # Fancy indexing copies, so a read-only mapping never reaches torch.
        return torch.from_numpy(self.packed[keys.numpy()]).permute(0, 3, 1, 2).contiguous()


def as_served(images: UInt8[Tensor, "batch channels height width"]) -> np.ndarray:
    """Images as a deployed file takes them: uint8 [batch, height, width, channels]."""
    return np.ascontiguousarray(images.permute(0, 2, 3, 1).numpy())
