"""A first layer that is computed from the images, not trained; it makes neighbouring pixels independent.

Its filters are the principal directions of small patches, each scaled to unit variance, and their negatives,
which a ReLU would otherwise cut off. The layers after it thus start with features that a trained first layer
only finds after an epoch. A training step needs no gradient at the full image resolution, which is the most
expensive gradient of a small network.

Source:
    Coates, Ng and Lee 2011, "An Analysis of Single-Layer Networks in Unsupervised Feature Learning",
    section 3.1.
    As a frozen first layer: Jordan 2024, arXiv:2404.00498, section 3.2.
"""

import math
from typing import Protocol, final

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

_MOST_IMAGES = 5000
_AT_ONCE = 50
_SMALLEST_VARIANCE = 1e-2
"""Added to the variance of each direction, for pixels with variance 1.

Without it, directions that hardly vary, which are noise, would be amplified.
"""


class PixelSource(Protocol):
    """Images by index, uint8 [images, height, width, channels]: an array, or a file of encoded images.

    Clips have an axis of frames before these.
    """

    def __len__(self) -> int: ...

    def __getitem__(self, numbers: np.ndarray, /) -> np.ndarray: ...


@final
class Whitening(nn.Module):
    """The principal components of patches and their negatives, as a convolution; all zeros before `fit`.

    Args:
        num_inputs: Number of channels of the images.
        num_outputs: Number of output channels, even. The first half are the strongest directions, strongest
            first; the second half are their negatives.
        size: Side length of a patch, px.
        stride: Distance between patches, px.

    Raises:
        ValueError: If `num_outputs` is odd, or larger than twice the number of directions.
    """

    filters: Tensor

    def __init__(self, num_inputs: int, num_outputs: int, size: int, stride: int) -> None:
        super().__init__()
        most = 2 * num_inputs * size**2
        if num_outputs > most or num_outputs % 2:
            raise ValueError(
                f"backbone.stem.channels = {num_outputs}: a whitened first layer with patches of "
                f"{size}x{size} px and {num_inputs} channels has {most // 2} principal directions, "
                "and each gives two channels; "
                f"use an even number up to {most}, or larger patches (backbone.stem.size_px)"
            )
        self.stride, self.padding = stride, size // 2
        # A buffer, so that nothing that trains, decays, averages or unfreezes weights changes it.
        self.register_buffer("filters", torch.zeros(num_outputs, num_inputs, size, size))

    def forward(self, image: Tensor) -> Float[Tensor, "batch outputs rows columns"]:
        return functional.conv2d(image, self.filters, stride=self.stride, padding=self.padding)

    @torch.no_grad()
    def fit(self, image: Float[Tensor, "batch channels height width"]) -> None:
        """Compute the filters from images that are normalised as the layer will see them."""
        count, channels, size, _ = self.filters.shape
        products, number = torch.zeros(channels * size**2, channels * size**2, dtype=torch.float64), 0
        for part in image.split(_AT_ONCE):
            patches = part.double().unfold(2, size, 1).unfold(3, size, 1).permute(0, 2, 3, 1, 4, 5)
            patches = patches.reshape(-1, channels * size**2)
            products += patches.T @ patches
            number += len(patches)
        variances, directions = torch.linalg.eigh(products / number)
        scaled = (directions / (variances + _SMALLEST_VARIANCE).sqrt()).T.flip(0)[: count // 2]
        # The sign of an eigenvector depends on the library; make the largest entry positive.
        signs = scaled.gather(1, scaled.abs().argmax(dim=1, keepdim=True)).sign()
        self.filters.copy_(torch.cat([scaled * signs, -scaled * signs]).view_as(self.filters))


def whiten(network: nn.Module, images: PixelSource) -> None:
    """Compute the filters of every whitening layer of a new network from training images.

    A network without a whitening layer is not changed.

    Args:
        network: Network whose backbone normalises pixels with its attribute `normalize`.
        images: The training split, in the size that the network sees. At most a few thousand images, evenly
            spread, are used.
    """
    layers = [module for module in network.modules() if isinstance(module, Whitening)]
    if layers:
        most = max(1, _MOST_IMAGES // math.prod(images[np.arange(1)].shape[1:-3]))
        seen = images[np.linspace(0, len(images) - 1, min(len(images), most)).round().astype(np.int64)]
        pixels = torch.from_numpy(np.array(seen)).flatten(0, -4).permute(0, 3, 1, 2)
        normalised = network.backbone.normalize(pixels)  # type: ignore[operator, union-attr]
        for layer in layers:
            layer.fit(normalised)
