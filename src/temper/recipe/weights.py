"""Which of the pretrained weights on this machine a teacher may start from, the best first."""

from temper.networks.pretrained import available_weights
from temper.recipe.networks import Available

_TRIED = ("tf_efficientnet_lite0", "mobilenetv2_100", "resnet18")
"""Backbones that are quick enough for a processor and that export and quantize well, the best first."""


def find_weights() -> list[Available]:
    """Weights that need no network: installed packages and timm's hub cache, of backbones that were tried."""
    found = [(weights.backbone.split(".")[0], weights) for weights in available_weights()]
    return [
        Available(weights.backbone, weights.reference)
        for name in _TRIED
        for backbone, weights in found
        if backbone == name
    ]
