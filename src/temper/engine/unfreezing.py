"""Unfreezing of a pretrained network: first the head, then the backbone from the head down; rates by layer.

Which layers are frozen depends only on the epoch, so a resumed training freezes the same layers as an
uninterrupted one. A frozen layer gets no gradient, and therefore no decay and no momentum: optimisers skip
parameters without a gradient. It is in evaluation mode, so that its statistics do not change either.
"""

import math

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from temper.networks.layers import split_layers
from temper.networks.params import FROM_SCRATCH, TransferParams


class Unfreezing:
    """Decides which layers of a network are trained in which epoch.

    Args:
        network: Network with its backbone as attribute `backbone`; everything after the backbone is the head.
        params: How the network is unfrozen; the default trains everything from the start.
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
        """Return the number of layers, from the head down, that are trained in an epoch, counted from 0."""
        over = self.params.unfreeze_epochs
        if not self.params.freezes:
            return len(self._layers)
        if over is None or epoch < self.params.head_epochs:
            return 0
        share = min(1.0, (epoch - self.params.head_epochs + 1) / over)
        return math.ceil(share * len(self._layers))

    def begin(self, epoch: int) -> bool:
        """Freeze and unfreeze layers for an epoch; return whether anything changed.

        The first call always returns True. After a change, a wrapper of the network that depends on which
        parameters get gradients must be made again. Ranks that average gradients use such a wrapper.
        """
        active = self.count(epoch)
        for number, layer in enumerate(self._layers):
            for parameter in layer.parameters:
                parameter.requires_grad_(number < active)
        before, self._active = self._active, active
        return active != before

    def train(self, network: nn.Module) -> None:
        """Put a network into training mode, except for its frozen parts."""
        network.train()
        for layer in self._layers[self._active :]:
            for module in layer.modules:
                module.eval()
        if self.params.freeze_statistics:
            for norm in self._norms:
                norm.eval()

    def scale(self, optimizer: torch.optim.Optimizer) -> None:
        """Split an optimiser's groups by layer; `lr_scale` of a group is its share of the learning rate."""
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
