"""Heads: networks that turn feature maps into the outputs of a problem."""

from torch import Tensor, nn
from torch.nn import functional

from temper.networks.attention import build_attention
from temper.networks.backbones import convolution
from temper.networks.pooling import build_pooling
from temper.problem import PLAIN_HEAD, Backbone, HeadParams, Inputs, Outputs


class Classifier(nn.Module):
    """Weights the coarsest feature maps, pools them to one vector and applies one linear layer.

    Output: `logits` [batch, classes].
    """

    def __init__(self, backbone: Backbone, *, num_classes: int, params: HeadParams = PLAIN_HEAD) -> None:
        super().__init__()
        num_channels = backbone.num_channels[-1]
        self.backbone = backbone
        self.attention = build_attention(params.attention, num_channels)
        self.pool = build_pooling(params.pooling, num_channels)
        self.head = nn.Linear(num_channels, num_classes)

    def forward(self, inputs: Inputs) -> Outputs:
        maps = self.backbone(inputs["image"])[-1]
        return {"logits": self.head(self.pool(self.attention(maps)))}


class Regressor(Classifier):
    """As a classifier, but its linear layer gives numbers. Output: `values` [batch, values]."""

    def __init__(self, backbone: Backbone, *, num_values: int, params: HeadParams = PLAIN_HEAD) -> None:
        super().__init__(backbone, num_classes=num_values, params=params)

    def forward(self, inputs: Inputs) -> Outputs:
        return {"values": super().forward(inputs)["logits"]}


class Segmenter(nn.Module):
    """Merges feature maps from coarse to fine, as in a feature pyramid.

    Output: `logits` [batch, classes, height, width].

    Source:
        Lin et al. 2017, arXiv:1612.03144, section 3. The decoder has as many channels as the
        finest map, at least 16.
    """

    def __init__(self, backbone: Backbone, *, num_classes: int) -> None:
        super().__init__()
        width = max(16, backbone.num_channels[0])
        self.backbone = backbone
        self.laterals = nn.ModuleList(nn.Conv2d(channels, width, 1) for channels in backbone.num_channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(convolution(width, width, 3), nn.ReLU()) for _ in backbone.num_channels
        )
        self.head = nn.Conv2d(width, num_classes, 1)

    def forward(self, inputs: Inputs) -> Outputs:
        image = inputs["image"]
        merged: Tensor | None = None
        maps = self.backbone(image)
        for lateral, smooth, level in reversed(list(zip(self.laterals, self.smooth, maps, strict=True))):
            here = lateral(level)
            merged = smooth(here if merged is None else here + resize(merged, here))
        assert merged is not None
        return {"logits": resize(self.head(merged), image)}


def resize(maps: Tensor, like: Tensor) -> Tensor:
    """Resize feature maps bilinearly to the height and width of another tensor."""
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return functional.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def count_parameters(network: nn.Module) -> int:
    """Count the numbers that training may change."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
