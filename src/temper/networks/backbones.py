"""Backbones: images in, feature maps out. Small networks of our own (residual and plain) and any of timm's.

Every backbone normalises the pixels itself, so that training, evaluation and the exported file see the same
numbers.
"""

from difflib import get_close_matches

import torch
from jaxtyping import Float
from torch import Tensor, nn

from temper.inputs.image_input import ImageInput
from temper.networks.attention import build_attention
from temper.networks.head_params import Attention
from temper.networks.params import SmallResNet, SmallVGG, Timm
from temper.networks.whitening import Whitening


class Normalize(nn.Module):
    """Normalises pixels 0..255 of any type to mean 0 and standard deviation 1 per channel."""

    mean: Tensor
    scale: Tensor

    def __init__(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(1, -1, 1, 1))
        # A constant channel has standard deviation 0; the lower limit avoids a division by 0.
        self.register_buffer("scale", 1 / torch.tensor(std).clamp(min=1.0).view(1, -1, 1, 1))

    def forward(self, image: Tensor) -> Float[Tensor, "batch channels height width"]:
        return (image.float() - self.mean) * self.scale


class Block(nn.Module):
    """Two 3x3 convolutions with a shortcut. The only activation is ReLU, because int8 kernels fuse it."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int, attention: Attention = "none") -> None:
        super().__init__()
        self.first = convolution(num_inputs, num_outputs, 3, stride)
        self.second = convolution(num_outputs, num_outputs, 3)
        self.attention = build_attention(attention, num_outputs)
        same = stride == 1 and num_inputs == num_outputs
        self.shortcut = nn.Identity() if same else convolution(num_inputs, num_outputs, 1, stride)
        self.relu = nn.ReLU()

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.attention(self.second(self.relu(self.first(maps)))) + self.shortcut(maps))


class ResidualBackbone(nn.Module):
    """Residual network without an early stride, for images up to about 64 px.

    Source:
        He et al. 2016, arXiv:1512.03385, section 4.2, with free widths and depths.
    """

    def __init__(self, params: SmallResNet, image: ImageInput) -> None:
        super().__init__()
        self.num_channels = params.widths
        self.strides = tuple(2**number for number in range(len(params.widths)))
        self.normalize = Normalize(image.mean, image.std)
        self.stem = nn.Sequential(convolution(image.channels, params.widths[0], 3), nn.ReLU())
        stages, width = [], params.widths[0]
        for number, (wider, depth) in enumerate(zip(params.widths, params.depths, strict=True)):
            shapes = [(width, 2 if number else 1), *((wider, 1) for _ in range(depth - 1))]
            blocks = [Block(inputs, wider, stride, params.attention) for inputs, stride in shapes]
            stages.append(nn.Sequential(*blocks))
            width = wider
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        return _levels(self.stem(self.normalize(image)), self.stages)


class PlainBackbone(nn.Module):
    """Stages of convolutions, each with normalisation and ReLU; each stage starts by halving the size.

    On a CPU, a small network spends more time on reading and writing feature maps than on multiplications.
    Therefore the network has no shortcut (two more passes over the maps), the first layer needs no gradient,
    and maps are pooled before they are normalised. If the first layer has a stride, the first stage does not
    change the size. The measurements are in `docs/log.md`.

    Source:
        Simonyan and Zisserman 2015, arXiv:1409.1556, with batch normalisation.
        Whitened first layer, and the order convolution, pooling, normalisation: Jordan 2024,
        arXiv:2404.00498.
    """

    def __init__(self, params: SmallVGG, image: ImageInput) -> None:
        super().__init__()
        stem, width = params.stem, params.stem.channels
        self.num_channels = params.widths
        self.strides = tuple(max(2, stem.stride) * 2**number for number in range(len(params.widths)))
        self.normalize = Normalize(image.mean, image.std)
        first = Whitening if stem.whitened else convolution
        self.stem = nn.Sequential(first(image.channels, width, stem.size_px, stem.stride), nn.ReLU())
        stages = []
        for number, (wider, depth) in enumerate(zip(params.widths, params.depths, strict=True)):
            halve = number > 0 or stem.stride == 1
            shapes = [(width, halve), *((wider, False) for _ in range(depth - 1))]
            stages.append(
                nn.Sequential(*(_plain_layer(inputs, wider, halve=half) for inputs, half in shapes))
            )
            width = wider
        self.stages = nn.ModuleList(stages)

    def forward(self, image: Tensor) -> list[Tensor]:
        return _levels(self.stem(self.normalize(image)), self.stages)


def _levels(maps: Tensor, stages: nn.ModuleList) -> list[Tensor]:
    """Return the output of each stage; each stage takes the output of the stage before it."""
    levels = []
    for stage in stages:
        maps = stage(maps)
        levels.append(maps)
    return levels


def _plain_layer(num_inputs: int, num_outputs: int, *, halve: bool) -> nn.Sequential:
    body, norm = convolution(num_inputs, num_outputs, 3)
    return nn.Sequential(body, *([nn.MaxPool2d(2)] if halve else []), norm, nn.ReLU())


class TimmBackbone(nn.Module):
    """Any backbone of timm that gives feature maps, after our normalisation.

    Attributes:
        origin: timm's configuration of the pretrained weights. The weights are not fetched, but the user may
            supply a file with them.
    """

    def __init__(self, params: Timm, image: ImageInput) -> None:
        super().__init__()
        import timm

        if not timm.is_model(params.name):
            names = timm.list_models()
            near = (
                timm.list_models(f"*{params.name}*")[:3]
                or get_close_matches(params.name, names, cutoff=0.5)
                or timm.list_models("resnet*")[:3]
            )
            raise ValueError(
                f"backbone.name = {params.name!r}: timm has no such backbone; "
                f"choose another one, e.g. {', '.join(near)}"
            )
        try:
            self.origin = timm.get_pretrained_cfg(params.name)
        except RuntimeError:
            plain, _, tag = params.name.partition(".")
            known = ", ".join(timm.list_models(f"{plain}.*", pretrained=True))
            raise ValueError(
                f"backbone.name = {params.name!r}: timm has no weights of {plain} with the tag {tag!r}; "
                f"known names with weights: {known or 'none'}"
            ) from None
        # The size of a position embedding depends on the size of the images.
        size = (
            {"img_size": (image.height_px, image.width_px)}
            if self.origin and self.origin.fixed_input_size
            else {}
        )
        self.whole = params.head_layers
        if self.whole:
            self.body = timm.create_model(params.name, num_classes=0, in_chans=image.channels, **size)
            if not hasattr(self.body, "forward_intermediates"):
                raise ValueError(
                    f"backbone.head_layers = true: timm's {params.name} cannot give its intermediate feature "
                    "maps; leave head_layers out"
                )
            levels = self.body.feature_info
            self.num_channels = (*(level["num_chs"] for level in levels[:-1]), self.body.num_features)
            self.strides = tuple(level["reduction"] for level in levels)
        else:
            self.body = timm.create_model(params.name, features_only=True, in_chans=image.channels, **size)
            self.num_channels = tuple(self.body.feature_info.channels())
            self.strides = tuple(self.body.feature_info.reduction())
        self.normalize = Normalize(image.mean, image.std)

    def forward(self, image: Tensor) -> list[Tensor]:
        if not self.whole:
            return self.body(self.normalize(image))
        last, levels = self.body.forward_intermediates(self.normalize(image))
        return [*levels[:-1], last]


def convolution(num_inputs: int, num_outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Build a square convolution with batch normalisation; it keeps the size, divided by `stride`."""
    body = nn.Conv2d(num_inputs, num_outputs, size, stride, padding=size // 2, bias=False)
    return nn.Sequential(body, nn.BatchNorm2d(num_outputs))


def build_backbone(
    params: SmallResNet | SmallVGG | Timm, image: ImageInput
) -> ResidualBackbone | PlainBackbone | TimmBackbone:
    """Build the backbone that the parameters name, for images of this size.

    Raises:
        ValueError: If the parameters are inconsistent, do not fit the images, or timm has no such backbone.
    """
    if isinstance(params, Timm):
        return TimmBackbone(params, image)
    if len(params.widths) != len(params.depths):
        raise ValueError(
            f"backbone.widths has {len(params.widths)} stages and backbone.depths has {len(params.depths)}: "
            "each stage needs a width and a depth; make both lists equally long"
        )
    if isinstance(params, SmallVGG) and params.stem.size_px > min(image.height_px, image.width_px):
        raise ValueError(
            f"backbone.stem.size_px = {params.stem.size_px}: the filter is larger than the images "
            f"({image.height_px}x{image.width_px} px); make it smaller"
        )
    return PlainBackbone(params, image) if isinstance(params, SmallVGG) else ResidualBackbone(params, image)
