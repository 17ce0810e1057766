"""Attention blocks: feature maps in, the same maps out, multiplied by weights that depend on their values.

The weights lie between 0 and 1 (a sigmoid). With attention, int8 kernels cannot be fused, because a product
with a computed weight stays in float. Measure the cost before you use attention in a student.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from temper.networks.head_params import Attention

Maps = Float[Tensor, "batch channels height width"]

_REDUCTION, _LEAST_HIDDEN = 16, 8
"""Reduction and smallest hidden width of the two-layer networks that weight channels.

With fewer than 8 hidden units, the attention of a narrow network may be dead from initialisation.
"""


class SqueezeExcite(nn.Module):
    """Weights channels by a small network that sees the channel means.

    Source:
        Hu et al. 2018, arXiv:1709.01507, section 3; reduction 16, at least 8 hidden units.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        hidden = max(_LEAST_HIDDEN, num_channels // _REDUCTION)
        self.down = nn.Conv2d(num_channels, hidden, 1)
        self.relu = nn.ReLU()
        self.up = nn.Conv2d(hidden, num_channels, 1)

    def forward(self, maps: Maps) -> Maps:
        return maps * self.up(self.relu(self.down(maps.mean(dim=(2, 3), keepdim=True)))).sigmoid()


class EfficientChannelAttention(nn.Module):
    """Weights channels by a convolution over the means of neighbouring channels.

    Source:
        Wang et al. 2020, arXiv:1910.03151, section 3.2.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        size = kernel_size(num_channels)
        self.convolution = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)

    def forward(self, maps: Maps) -> Maps:
        weights = self.convolution(maps.mean(dim=(2, 3)).unsqueeze(1)).sigmoid()
        return maps * weights.squeeze(1)[:, :, None, None]


def kernel_size(num_channels: int) -> int:
    """Return how many neighbouring channels ECA uses.

    It is the whole part of log2(channels) / 2 + 1 / 2, plus 1 if that is even, and at least 3.

    Example:
        >>> [kernel_size(channels) for channels in (16, 64, 128, 512, 2048)]
        [3, 3, 5, 5, 7]
    """
    size = int((math.log2(num_channels) + 1) / 2)
    return max(3, size + (size + 1) % 2)


class ConvolutionalAttention(nn.Module):
    """CBAM: weights channels by a small network, then positions by a convolution.

    The network sees the mean and the maximum of each channel. The convolution sees the mean and the maximum
    over the channels at each position.

    Source:
        Woo et al. 2018, arXiv:1807.06521, section 3; reduction 16, at least 8 hidden units,
        7x7 over positions.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        hidden = max(_LEAST_HIDDEN, num_channels // _REDUCTION)
        self.down = nn.Conv2d(num_channels, hidden, 1, bias=False)
        self.relu = nn.ReLU()
        self.up = nn.Conv2d(hidden, num_channels, 1, bias=False)
        self.places = nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))

    def forward(self, maps: Maps) -> Maps:
        squeezed = (maps.mean(dim=(2, 3), keepdim=True), maps.amax(dim=(2, 3), keepdim=True))
        scores = [self.up(self.relu(self.down(values))) for values in squeezed]
        maps = maps * (scores[0] + scores[1]).sigmoid()
        summary = torch.cat([maps.mean(dim=1, keepdim=True), maps.amax(dim=1, keepdim=True)], dim=1)
        return maps * self.places(summary).sigmoid()


_BLOCKS = {"se": SqueezeExcite, "eca": EfficientChannelAttention, "cbam": ConvolutionalAttention}


def build_attention(name: Attention, num_channels: int) -> nn.Module:
    """Build an attention block for maps of `num_channels`; `none` changes nothing and has no weights."""
    return nn.Identity() if name == "none" else _BLOCKS[name](num_channels)
