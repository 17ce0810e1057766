"""Backbones: pictures in, feature maps out. Small residual networks of our own, and any of timm's.

Every backbone normalises its own pixels, so that training, evaluation and the exported file see the same numbers.
"""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor, nn

from temper.networks.params import AnyBackbone, SmallResNet
from temper.problem import Facts


class Normalize(nn.Module):
    """Pixels 0..255 of any type to mean 0 and standard deviation 1 per channel."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        # A channel that never varies would divide by nothing.
        self.register_buffer("scale", 1 / torch.tensor(std).clamp(min=1.0).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Float[Tensor, "batch channels height width"]:
        return (image.float() - self.mean) * self.scale


class Block(nn.Module):
    """Two 3x3 convolutions beside a shortcut. ReLU only: it is what int8 kernels fuse."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int) -> None:
        super().__init__()
        self.first = convolution(num_inputs, num_outputs, 3, stride)
        self.second = convolution(num_outputs, num_outputs, 3)
        same = stride == 1 and num_inputs == num_outputs
        self.shortcut = nn.Identity() if same else convolution(num_inputs, num_outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.second(self.relu(self.first(maps))) + self.shortcut(maps))


class ResidualBackbone(nn.Module):
    """Residual network without early stride, for pictures up to about 64 px.

    Source:
        He et al. 2016, arXiv:1512.03385, section 4.2, with widths and depths left open.
    """

    def __init__(self, params: SmallResNet, facts: Facts) -> None:
        super().__init__()
        self.num_channels = params.widths
        self.strides = tuple(2**number for number in range(len(params.widths)))
        self.normalize = Normalize(facts.mean, facts.std)
        self.stem = nn.Sequential(convolution(facts.channels, params.widths[0], 3), nn.ReLU())
        stages, width = [], params.widths[0]
        for number, (wider, depth) in enumerate(zip(params.widths, params.depths, strict=True)):
            blocks = [Block(width, wider, 2 if number else 1), *(Block(wider, wider, 1) for _ in range(depth - 1))]
            stages.append(nn.Sequential(*blocks))
            width = wider
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        maps, found = self.stem(self.normalize(image)), []
        for stage in self.stages:
            maps = stage(maps)
            found.append(maps)
        return found


class TimmBackbone(nn.Module):
    """Any backbone of timm that gives feature maps, behind our normalisation."""

    def __init__(self, name: str, weights: Path | None, facts: Facts) -> None:
        super().__init__()
        import timm

        if not timm.is_model(name):
            near = timm.list_models(f"*{name}*")[:3] or timm.list_models("resnet*")[:3]
            raise ValueError(f"timm has no backbone {name!r}; near ones are {', '.join(near)}")
        self.body = timm.create_model(name, pretrained=False, features_only=True, in_chans=facts.channels)
        self.num_channels = tuple(self.body.feature_info.channels())
        self.strides = tuple(self.body.feature_info.reduction())
        self.normalize = Normalize(facts.mean, facts.std)
        if weights is not None:
            from safetensors.torch import load_file

            self.body.load_state_dict(load_file(weights))

    def forward(self, image: Tensor) -> list[Tensor]:
        return self.body(self.normalize(image))


def convolution(num_inputs: int, num_outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """A square convolution that keeps the size (divided by `stride`), with batch normalisation."""
    body = nn.Conv2d(num_inputs, num_outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(body, nn.BatchNorm2d(num_outputs))


def build_backbone(params: AnyBackbone, facts: Facts, project: Path) -> ResidualBackbone | TimmBackbone:
    """The backbone that the parameters name, for pictures of these facts."""
    if isinstance(params, SmallResNet):
        if len(params.widths) != len(params.depths):
            raise ValueError(
                f"backbone.widths names {len(params.widths)} stages and backbone.depths {len(params.depths)}; give as many of both"
            )
        return ResidualBackbone(params, facts)
    return TimmBackbone(params.name, project / params.weights if params.weights else None, facts)
