"""Heads: networks that turn feature maps into the outputs of a problem."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from temper.networks.attention import build_attention
from temper.networks.backbones import Normalize, convolution
from temper.networks.head_params import EmbeddingParams, PixelPyramidParams, PoolingParams, PyramidParams
from temper.networks.index import Index
from temper.networks.pooling import build_pooling
from temper.problem import Backbone, Inputs, Outputs

_LEAST_WIDTH = 16
"""Smallest number of channels of merged maps, unless params.yaml sets another one."""


class Classifier(nn.Module):
    """Weights the coarsest feature maps, pools them to one vector and applies one linear layer.

    The maps of further inputs are averaged to vectors, which are appended. Output: `logits` [batch, classes].
    """

    def __init__(self, encoders: Mapping[str, Backbone], *, num_classes: int, params: PoolingParams) -> None:
        super().__init__()
        (self.first, self.backbone), *others = encoders.items()
        num_channels = self.backbone.num_channels[-1]
        self.attention = build_attention(params.attention, num_channels)
        self.pool = build_pooling(params.pooling, num_channels)
        self.others = nn.ModuleDict(dict(others))  # type: ignore[arg-type]
        width = num_channels + sum(encoder.num_channels[-1] for _, encoder in others)
        self.head = nn.Linear(width, num_classes)

    def forward(self, inputs: Inputs) -> Outputs:
        vector = self.pool(self.attention(self.backbone(inputs[self.first])[-1]))
        others = [encoder(inputs[name])[-1].mean(dim=(2, 3)) for name, encoder in self.others.items()]
        return {"logits": self.head(torch.cat([vector, *others], dim=1) if others else vector)}


class Regressor(Classifier):
    """As a classifier, but its linear layer gives numbers. Output: `values` [batch, values]."""

    def __init__(self, encoders: Mapping[str, Backbone], *, num_values: int, params: PoolingParams) -> None:
        super().__init__(encoders, num_classes=num_values, params=params)

    def forward(self, inputs: Inputs) -> Outputs:
        return {"values": super().forward(inputs)["logits"]}


class Embedder(Classifier):
    """A direction for each example, compared with a learned one of each item and with known examples.

    Outputs: `logits` [batch, items], scaled cosines to the learned directions; `similarities`
    [batch, items * kept], cosines to the examples in the index, which get no gradient.

    Source:
        Zhai and Wu 2019, arXiv:1811.12649: classification of normalised embeddings by normalised weights.
    """

    def __init__(self, encoders: Mapping[str, Backbone], *, num_items: int, params: EmbeddingParams) -> None:
        super().__init__(encoders, num_classes=params.size, params=params)
        self.items = nn.Parameter(torch.randn(num_items, params.size))
        self.scale = params.scale
        self.index = Index(num_items, kept=params.kept, size=params.size)

    def embed(self, inputs: Inputs) -> Tensor:
        """Return a vector of length 1 for each example, [batch, size]."""
        return functional.normalize(super().forward(inputs)["logits"].float(), dim=1)

    def forward(self, inputs: Inputs) -> Outputs:
        direction = self.embed(inputs)
        items = functional.normalize(self.items.float(), dim=1)
        return {
            "logits": self.scale * functional.linear(direction, items),
            "similarities": self.index(direction.detach()),
        }


class Pyramid(nn.Module):
    """Merges feature maps from coarse to fine, as in a feature pyramid.

    Args:
        encoders: The one backbone that gives the maps, by the name of its input.
        params: Its settings.
        stride: Pixels per cell of the finest map that is merged; finer maps are left out.

    Source:
        Lin et al. 2017, arXiv:1612.03144, section 3.
    """

    def __init__(self, encoders: Mapping[str, Backbone], *, params: PyramidParams, stride: int = 1) -> None:
        super().__init__()
        ((self.seen, backbone),) = encoders.items()
        first = sum(each < stride for each in backbone.strides[:-1])
        channels = backbone.num_channels[first:]
        self.width = params.channels or max(_LEAST_WIDTH, channels[0])
        self.backbone = backbone
        self.laterals = nn.ModuleList(nn.Conv2d(each, self.width, 1) for each in channels)
        self.smooth = nn.ModuleList(
            nn.Sequential(convolution(self.width, self.width, 3), nn.ReLU()) for _ in channels
        )

    def merge(self, image: Tensor) -> Tensor:
        """Return the finest merged map of an image, [batch, width, rows, columns]."""
        return self.merge_all(image)[0]

    def merge_all(self, image: Tensor) -> list[Tensor]:
        """Return the merged maps of an image, finest first, each [batch, width, rows, columns]."""
        merged: list[Tensor] = []
        maps = self.backbone(image)[-len(self.laterals) :]
        for lateral, smooth, level in reversed(list(zip(self.laterals, self.smooth, maps, strict=True))):
            here = lateral(level)
            merged.append(smooth(here + resize(merged[-1], here) if merged else here))
        return merged[::-1]


class FullResolution(nn.Module):
    """Merges a map of the pyramid with what a small stem sees of the image, at the image's resolution.

    Each of its channels is as large as the image, so there are half as many as in the pyramid, but not fewer
    than 16 unless the pyramid itself has fewer. Maps are added, as in the pyramid, and not concatenated.

    Args:
        image_channels: Channels of the image.
        width: Channels of the pyramid's map.

    Source:
        Ronneberger et al. 2015, arXiv:1505.04597, section 2: the first level of U-Net.
    """

    def __init__(self, image_channels: int, width: int) -> None:
        super().__init__()
        self.width = min(width, max(_LEAST_WIDTH, width // 2))
        self.stem = nn.Sequential(convolution(image_channels, self.width, 3), nn.ReLU())
        self.narrow = nn.Conv2d(width, self.width, 1)
        self.smooth = nn.Sequential(convolution(self.width, self.width, 3), nn.ReLU())

    def forward(self, image: Tensor, merged: Tensor) -> Tensor:
        """Return [batch, width, height, width of the image].

        Args:
            image: Normalised pixels, [batch, channels, height, width of the image].
            merged: Map of the pyramid, [batch, channels, rows, columns].
        """
        here = self.stem(image)
        return self.smooth(here + resize(self.narrow(merged), here))


class Segmenter(Pyramid):
    """A class for each pixel. Output: `logits` [batch, classes, height, width].

    Raises:
        ValueError: If a level at full resolution is wanted, and the backbone has one already.
    """

    def __init__(
        self, encoders: Mapping[str, Backbone], *, num_classes: int, params: PixelPyramidParams
    ) -> None:
        super().__init__(encoders, params=params)
        self.full: FullResolution | None = None
        if params.full_resolution:
            if self.backbone.strides[0] == 1:
                raise ValueError(
                    "head.full_resolution = true: the finest map of this backbone has the image's "
                    "resolution already; leave it out, or use a backbone whose finest map is smaller "
                    "(small-vgg, most of timm's)"
                )
            self.full = FullResolution(self._normalize.mean.shape[1], self.width)
        self.head = nn.Conv2d(self.full.width if self.full else self.width, num_classes, 1)

    @property
    def _normalize(self) -> Normalize:
        """The backbone's own normalisation, which pretrained weights may set."""
        return self.backbone.normalize  # type: ignore[attr-defined]

    def forward(self, inputs: Inputs) -> Outputs:
        image = inputs[self.seen]
        merged = self.merge(image)
        if self.full is not None:
            merged = self.full(self._normalize(image), merged)
        return {"logits": resize(self.head(merged), image)}


class Pointer(Pyramid):
    """A heat map for each point, and the offset of the point from the centre of each cell.

    Output: `heat` [batch, points, rows, columns], and `offset` [batch, points, 2, rows, columns] in cells. A
    cell is a square of `cell_px` pixels.
    """

    def __init__(
        self, encoders: Mapping[str, Backbone], *, num_points: int, cell_px: int, params: PyramidParams
    ) -> None:
        super().__init__(encoders, params=params, stride=cell_px)
        self.cell_px = cell_px
        self.heat = nn.Conv2d(self.width, num_points, 1)
        self.offset = nn.Conv2d(self.width, 2 * num_points, 1)

    def forward(self, inputs: Inputs) -> Outputs:
        image = inputs[self.seen]
        merged = to_cells(self.merge(image), image, self.cell_px)
        return {"heat": self.heat(merged), "offset": self.offset(merged).unflatten(1, (-1, 2))}


def to_cells(maps: Tensor, image: Tensor, cell_px: int) -> Tensor:
    """Resize feature maps to a grid of square cells of an image; what is left at its edges is a cell too."""
    size = [-(-side // cell_px) for side in image.shape[-2:]]
    if list(maps.shape[-2:]) == size:
        return maps
    return functional.interpolate(maps, size=size, mode="bilinear", align_corners=False)


def resize(maps: Tensor, like: Tensor) -> Tensor:
    """Resize feature maps bilinearly to the height and width of another tensor."""
    if maps.shape[-2:] == like.shape[-2:]:
        return maps
    return functional.interpolate(maps, size=like.shape[-2:], mode="bilinear", align_corners=False)


def count_parameters(network: nn.Module) -> int:
    """Count the numbers that training may change."""
    return sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
