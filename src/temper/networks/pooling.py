"""Global pooling: feature maps in, one vector per image out."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

Maps = Float[Tensor, "batch channels height width"]
Vectors = Float[Tensor, "batch channels"]


class Average(nn.Module):
    """The mean over positions."""

    def forward(self, maps: Maps) -> Vectors:
        return maps.mean(dim=(2, 3))


class Maximum(nn.Module):
    """The maximum over positions."""

    def forward(self, maps: Maps) -> Vectors:
        return maps.amax(dim=(2, 3))


class AverageAndMaximum(nn.Module):
    """Half the mean plus half the maximum over positions."""

    def forward(self, maps: Maps) -> Vectors:
        return (maps.mean(dim=(2, 3)) + maps.amax(dim=(2, 3))) / 2


class GeneralizedMean(nn.Module):
    """The p-th root of the mean of p-th powers; p is learned, from 1 (the mean) to infinity (the maximum).

    Values are first clipped to at least `least`, which is above 0. The computation is always in float32,
    because third powers leave the range in which bf16 is accurate enough.

    Source:
        Radenovic et al. 2018, arXiv:1711.02512, section 3.2; p starts at 3.
    """

    def __init__(self, exponent: float = 3.0, least: float = 1e-6) -> None:
        super().__init__()
        self.exponent = nn.Parameter(torch.tensor([exponent]))
        self.least = least

    def forward(self, maps: Maps) -> Vectors:
        exponent = self.exponent.clamp(min=1.0)
        return maps.float().clamp(min=self.least).pow(exponent).mean(dim=(2, 3)).pow(1 / exponent)


class AttentionPool(nn.Module):
    """A weighted mean over positions; the weights are a softmax of a learned score of each position.

    Source:
        Ilse et al. 2018, arXiv:1802.04712, section 2.4, with a linear score.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__()
        # No bias, because the softmax would cancel it.
        self.score = nn.Conv2d(num_channels, 1, 1, bias=False)

    def forward(self, maps: Maps) -> Vectors:
        weights = self.score(maps).flatten(1).softmax(dim=1)
        return (maps.flatten(2) * weights.unsqueeze(1)).sum(dim=2)


def build_pooling(name: str, num_channels: int) -> nn.Module:
    """Build the pooling that `PoolingParams.pooling` names, for maps with `num_channels` channels."""
    if name == "attention":
        return AttentionPool(num_channels)
    plain = {"average": Average, "max": Maximum, "average-and-max": AverageAndMaximum, "gem": GeneralizedMean}
    return plain[name]()
