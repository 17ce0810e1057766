"""Encoders: an input in, feature maps out. Those of images and clips are backbones, the others are plain."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from temper.inputs.clip_input import ClipInput
from temper.inputs.facts import Facts, Input
from temper.inputs.image_input import ImageInput
from temper.inputs.table_input import TableInput
from temper.inputs.text_input import TextInput
from temper.networks.backbones import build_backbone
from temper.networks.params import AnyBackbone, Perceptron, SmallResNet, SmallVGG, TextConvolutions, Timm
from temper.problem import Backbone

_PADDING = 0
_FILTER = 5
"""Number of neighbouring bytes that a filter sees."""
_STEPS = 3
"""Number of neighbouring frames that a filter sees."""


class TextEncoder(nn.Module):
    """A vector per byte, then convolutions along the text, each of which halves its length.

    The bytes with which a text is filled up do not count: the last map is 0 there, and scaled so that its
    mean over all places is the mean over the text itself.

    Source:
        Zhang, Zhao and LeCun 2015, arXiv:1509.01626, for convolutions over single letters.
    """

    def __init__(self, params: TextConvolutions, text: TextInput) -> None:
        super().__init__()
        if text.length < 2 ** len(params.widths):
            raise ValueError(
                f"backbone.widths has {len(params.widths)} convolutions, which halve {text.length} bytes "
                "(prepare.text_bytes) to nothing; use fewer, or longer texts"
            )
        self.num_channels = params.widths
        self.strides = tuple(2 ** (number + 1) for number in range(len(params.widths)))
        self.letters = nn.Embedding(256, params.widths[0], padding_idx=_PADDING)
        layers, width = [], params.widths[0]
        for wider in params.widths:
            body = nn.Conv2d(width, wider, (1, _FILTER), stride=(1, 2), padding=(0, _FILTER // 2), bias=False)
            layers.append(nn.Sequential(body, nn.BatchNorm2d(wider), nn.ReLU()))
            width = wider
        self.layers = nn.ModuleList(layers)

    def forward(self, given: Tensor) -> list[Tensor]:
        maps = self.letters(given.long()).transpose(1, 2).unsqueeze(2)
        there = (given != _PADDING).float()[:, None, None]
        levels = []
        for layer in self.layers:
            maps = layer(maps)
            there = nn.functional.max_pool2d(there, (1, 2), ceil_mode=True)
            levels.append(maps * there)
        levels[-1] = levels[-1] / there.mean(dim=3, keepdim=True).clamp(min=1 / there.shape[3])
        return levels


class TableEncoder(nn.Module):
    """Normalised numbers, and a flag for each missing one, through fully connected layers."""

    mean: Tensor
    scale: Tensor

    def __init__(self, params: Perceptron, table: TableInput) -> None:
        super().__init__()
        self.num_channels, self.strides = params.widths, (1,) * len(params.widths)
        self.register_buffer("mean", torch.tensor(table.mean))
        self.register_buffer("scale", 1 / torch.tensor(table.std))
        layers, width = [], 2 * len(table.columns)
        for wider in params.widths:
            layers.append(nn.Sequential(nn.Linear(width, wider), nn.ReLU()))
            width = wider
        self.layers = nn.ModuleList(layers)

    def forward(self, given: Tensor) -> list[Tensor]:
        missing = given.isnan()
        values = torch.where(missing, 0.0, (given - self.mean) * self.scale)
        vector, levels = torch.cat([values, missing.float()], dim=1), []
        for layer in self.layers:
            vector = layer(vector)
            levels.append(vector[:, :, None, None])
        return levels


class ClipEncoder(nn.Module):
    """A backbone of images over every frame; its coarsest maps, averaged over time.

    Before that, what a convolution over time finds in each cell is added, so that the order of the frames
    counts: at an edge that moves, one side of it is seen first.

    Source:
        Tran et al. 2018, arXiv:1711.11248, for convolutions over places and over time one after the other.
    """

    def __init__(self, params: SmallResNet | SmallVGG | Timm, clip: ClipInput) -> None:
        super().__init__()
        self.body = build_backbone(params, clip.frame)
        # Pretrained weights and whitening look for it here, as in an encoder of images.
        self.normalize, self.body.normalize = self.body.normalize, nn.Identity()  # type: ignore[assignment]
        self.origin = getattr(self.body, "origin", None)
        self.num_channels, self.strides = self.body.num_channels[-1:], self.body.strides[-1:]
        self.frames, width = clip.frames, self.num_channels[0]
        body = nn.Conv2d(width, width, (_STEPS, 1), padding=(_STEPS // 2, 0), bias=False)
        self.time = nn.Sequential(body, nn.BatchNorm2d(width), nn.ReLU())

    def forward(self, given: Tensor) -> list[Tensor]:
        maps = self.body(self.normalize(given.flatten(0, 1)))[-1]
        cells = maps.flatten(2).unflatten(0, (-1, self.frames)).transpose(1, 2)
        both = (cells + self.time(cells)).mean(dim=2)
        return [both.unflatten(2, maps.shape[2:])]


_BACKBONES: tuple[AnyBackbone, ...] = (
    SmallResNet(family="small-resnet", widths=(16, 32), depths=(1, 1)),
    SmallVGG(family="small-vgg", widths=(16, 32), depths=(1, 1)),
    Timm(family="timm", name="resnet18"),
)
_Builder: TypeAlias = Callable[[Any, Any], Backbone]
_ENCODERS: dict[type[Input], tuple[tuple[AnyBackbone, ...], _Builder]] = {
    ImageInput: (_BACKBONES, build_backbone),
    ClipInput: (_BACKBONES, ClipEncoder),
    TextInput: ((TextConvolutions(family="text-convolutions"),), TextEncoder),
    TableInput: ((Perceptron(family="perceptron"),), TableEncoder),
}
"""Type of input -> an encoder of each family that suits it, and what builds them.

The first one is taken where params.yaml names none."""


def build_encoders(
    backbone: AnyBackbone, facts: Facts, others: Mapping[str, AnyBackbone] = MappingProxyType({})
) -> dict[str, Backbone]:
    """Build the encoder of each input.

    Args:
        backbone: Encoder of the first input.
        facts: The inputs.
        others: Encoders of the other inputs, by name; a plain one if an input is left out.

    Raises:
        ValueError: If an encoder does not suit its input, or belongs to no input.
    """
    first, *further = facts
    if unknown := [name for name in others if name not in further]:
        raise ValueError(
            f"encoders.{unknown[0]}: no further input has this name; there are "
            f"{', '.join(further) or 'none'} besides {first}, whose encoder is the backbone"
        )
    found = {first: _build(backbone, facts[first], "backbone")}
    for name in further:
        plain = _ENCODERS[type(facts[name])][0][0]
        found[name] = _build(others.get(name, plain), facts[name], f"encoders.{name}")
    return found


def _build(params: AnyBackbone, given: Input, where: str) -> Backbone:
    suited, build = _ENCODERS[type(given)]
    if not isinstance(params, tuple(map(type, suited))):
        raise ValueError(
            f"{where}.family = {params.family}: this family cannot read the input; "
            f"use {' or '.join(each.family for each in suited)}"
        )
    return build(params, given)
