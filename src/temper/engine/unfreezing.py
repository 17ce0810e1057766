"""Unfreezing a pretrained network: the head first, then the backbone's layers from the head down; and learning rates by layer.

What is frozen is a function of the epoch alone, so a resumed training freezes what an undisturbed one does. A frozen layer gets no
gradient (so no decay and no momentum: optimisers pass over what has none), and is in evaluation mode, so that its
statistics stay, too.
"""

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from temper.networks.layers import split_layers
from temper.networks.params import FROM_SCRATCH, TransferParams


class Thawing:
    """Which layers of a network are trained in which epoch.

    Args:
        network: With its backbone as attribute `backbone`; what stands behind that is the head.
        params: How it is unfrozen; the default trains everything from the start.
    """

    def __init__(self, network: nn.Module, params: TransferParams = FROM_SCRATCH) -> None:
        self.params = params
        plain = not params.freezes and params.lr_decay == 1.0 and not params.freeze_statistics
        self._layers = () if plain else tuple(reversed(split_layers(network.backbone)))  # type: ignore[arg-type]
        self._norms = [
            module
            for layer in self._layers
            for part in layer.modules
            for module in part.modules()
            if isinstance(module, _BatchNorm)
        ]
        self._active: int | None = None

    def count(self, epoch: int) -> int:
        """How many layers, from the head down, are trained in an epoch, counted from 0."""
        over = self.params.unfreeze_epochs
        if not self.params.freezes:
            return len(self._layers)
        if over is None or epoch < self.params.head_epochs:
            return 0
        share = min(1.0, (epoch - self.params.head_epochs + 1) / over)
        return math.ceil(share * len(self._layers))

    def begin(self, epoch: int) -> bool:
        """Freeze and unfreeze what an epoch asks for; returns whether anything changed, as it does the first time.

        Whoever wraps the network by what gets gradients (ranks that average them) must wrap it anew after a change.
        """
        active = self.count(epoch)
        for number, layer in enumerate(self._layers):
            for parameter in layer.parameters:
                parameter.requires_grad_(number < active)
        before, self._active = self._active, active
        return active != before

    def train(self, network: nn.Module) -> None:
        """Put a network into training mode, what is frozen excepted."""
        network.train()
        for layer in self._layers[self._active :]:
            for module in layer.modules:
                module.eval()
        if self.params.freeze_statistics:
            for norm in self._norms:
                norm.eval()

    def scale(self, optimizer: torch.optim.Optimizer) -> None:
        """Split an optimiser's groups by layer; each says in `lr_scale` which share of the learning rate it takes."""
        if self.params.lr_decay == 1.0:
            return
        scales = {
            id(parameter): self.params.lr_decay ** (depth + 1)
            for depth, layer in enumerate(self._layers)
            for parameter in layer.parameters
        }
        groups = []
        for group in optimizer.param_groups:
            parts: dict[float, list[torch.Tensor]] = {}
            for parameter in group["params"]:
                parts.setdefault(scales.get(id(parameter), 1.0), []).append(parameter)
            groups += [
                {**group, "params": part, "lr_scale": share * group.get("lr_scale", 1.0)}
                for share, part in parts.items()
            ]
        optimizer.param_groups[:] = groups
