"""A first layer that is computed from the images instead of trained: it makes neighbouring pixels independent of each other.

Its filters are the principal directions of small patches, each scaled to unit variance, and their negatives (what a rectifier
would cut off). The layers behind it so begin with what a trained first layer only finds after an epoch, and the step needs
no gradient at the images' own resolution, the dearest one of small networks.

Source:
    Coates, Ng and Lee 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning", section 3.1;
    as a frozen first layer: Jordan 2024, arXiv:2404.00498, section 3.2.
"""

from typing import Protocol, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_MOST_IMAGES = 5000
_AT_ONCE = 50
_SMALLEST_VARIANCE = 1e-2
"""Added to each direction's variance, of pixels with variance 1: directions that hardly vary are noise, and would be blown up."""


class PixelSource(Protocol):
    """Images by number, uint8 [images, height, width, channels]: an array, or a file of encoded ones."""

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray: ...


@final
class Whitening(nn.Module):
    """Patches' principal components and their negatives, as a convolution; zeros until `fit` saw images.

    Args:
        num_inputs: Channels of the images.
        num_outputs: Channels, even: the strongest directions come first, each with its negative.
        size: Side of a patch, px.
        stride: Between patches, px.

    Raises:
        ValueError: If there are more outputs than directions.
    """

    filters: Tensor

    def __init__(self, num_inputs: int, num_outputs: int, size: int, stride: int) -> None:
        super().__init__()
        most = 2 * num_inputs * size**2
        if num_outputs > most or num_outputs % 2:
            raise ValueError(
                f"a whitened first layer of {num_outputs} channels: patches of {size}x{size} px and {num_inputs} channels have "
                f"{most // 2} directions, each counts twice; take an even number up to {most}, or larger patches"
            )
        self.stride, self.padding = stride, size // 2
        # A buffer: nothing that trains, decays, averages or unfreezes weights shall touch it.
        self.register_buffer("filters", torch.zeros(num_outputs, num_inputs, size, size))

    def forward(self, image: Tensor) -> Float[Tensor, "batch outputs rows columns"]:
        return functional.conv2d(image, self.filters, stride=self.stride, padding=self.padding)

    @torch.no_grad()
    def fit(self, image: Float[Tensor, "batch channels height width"]) -> None:
        """Set the filters by images, normalised as the layer will see them."""
        count, channels, size, _ = self.filters.shape
        products, number = torch.zeros(channels * size**2, channels * size**2, dtype=torch.float64), 0
        for part in image.split(_AT_ONCE):
            patches = part.double().unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5)
            patches = patches.reshape(-1, channels * size**2)
            products += patches.T @ patches
            number += len(patches)
        variances, directions = torch.linalg.eigh(products / number)
        scaled = (directions / (variances + _SMALLEST_VARIANCE).sqrt()).T.flip(0)[: count // 2]
        # The sign of an eigenvector is a matter of the library: make the largest entry positive.
        signs = scaled.gather(1, scaled.abs().argmax(dim=1, keepdim=True)).sign()
        self.filters.copy_(torch.cat([scaled * signs, -scaled * signs]).view_as(self.filters))


def whiten(network: nn.Module, images: PixelSource) -> None:
    """Let every whitening layer of a fresh network see training images; networks without one are left as they are.

    Args:
        network: Whose backbone normalises pixels by its `normalize`.
        images: The training split, in the size that the network sees: a few thousand of it, evenly spread, are looked at.
    """
    layers = [module for module in network.modules() if isinstance(module, Whitening)]
    if layers:
        seen = images[
            np.linspace(0, len(images) - 1, min(len(images), _MOST_IMAGES)).round().astype(np.int64)
        ]
        normalised = network.backbone.normalize(torch.from_numpy(np.array(seen)).permute(0, 3, 1, 2))  # type: ignore[operator, union-attr]
        for layer in layers:
            layer.fit(normalised)
