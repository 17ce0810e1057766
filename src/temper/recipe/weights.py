"""Find the pretrained weights on this machine from which a teacher may start, the best first."""

from temper.networks.pretrained import available_weights
from temper.recipe.networks import Available

_TRIED = ("tf_efficientnet_lite0", "mobilenetv2_100", "resnet18")
"""Backbones that are fast enough on a processor and that export and quantize well, the best first."""


def find_weights() -> list[Available]:
    """Return weights that need no download: of packages and of timm's hub cache, for tried backbones."""
    found = [(weights.backbone.split(".")[0], weights) for weights in available_weights()]
    return [
        Available(weights.backbone, weights.reference)
        for name in _TRIED
        for backbone, weights in found
        if backbone == name
    ]
