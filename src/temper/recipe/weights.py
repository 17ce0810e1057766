"""Which pretrained weights are on this machine, without fetching any."""

import os
from importlib.util import find_spec
from pathlib import Path

from temper.networks.pretrained import PACKAGES
from temper.recipe.networks import Available

_FROM_HUB = ("tf_efficientnet_lite0", "mobilenetv2_100", "resnet18")
"""Backbones that are quick enough for a processor and whose int8 students were tried, the best first."""


def find_weights() -> list[Available]:
    """Packages that are installed, then what timm's hub has left in its cache."""
    found = [
        Available(package.backbone, f"package:{name}")
        for name, package in PACKAGES.items()
        if find_spec(package.module) is not None
    ]
    cached = {path.name for path in _cache().glob("models--timm--*") if any(path.glob("snapshots/*/*"))}
    for backbone in _FROM_HUB:
        if any(name.removeprefix("models--timm--").split(".")[0] == backbone for name in cached):
            found.append(Available(backbone, "timm"))
    return found


def _cache() -> Path:
    """Where huggingface_hub keeps what it fetched, by its own variables."""
    home = Path(
        os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    )
    return Path(os.environ.get("HF_HUB_CACHE") or home / "hub")
