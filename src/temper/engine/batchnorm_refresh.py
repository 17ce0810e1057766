"""Recomputes batch normalisation statistics for exactly the weights that are scored and stored.

Running statistics belong to earlier weights: those of the last ten or twenty steps or, if weights are
averaged, an average of such statistics. If the weights have changed much since then, a network runs with
statistics that do not fit it, and its score says little about it. Before an epoch is scored, some batches of
training examples therefore run forward through the network, and every normalisation layer takes the mean over
them.

Statistics are recomputed where they lag:

- Weights are averaged (`fit.average_decay`): the averaged network never ran in training.
- An epoch has fewer than 100 steps: the weights then change much within the ten or so steps that running
  statistics cover.

Nothing is recomputed that does not lag: networks without batch normalisation, frozen layers, and statistics
that `transfer.freeze_statistics` freezes. The network that continues training keeps its own statistics.

Source:
    Izmailov et al. 2018, arXiv:1803.05407, section 3.2 (averaged weights need their own statistics).
    Wu and Johnson 2021, arXiv:2105.07576, section 3 (mean over batches instead of a moving mean; 1,000 to
    10,000 examples are enough).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from temper.engine.unfreezing import Unfreezing
from temper.problem import Inputs

_FEW_STEPS = 100
_ENOUGH_EXAMPLES = 1000
_MOST_BATCHES = 0.15
"""Largest share of an epoch's batches that is used. A forward pass is a third of a step, so this is a
twentieth of an epoch's work."""
_LEAST_BATCHES = 2


def count_batches(num_batches: int, batch_size: int, *, averaged: bool) -> int:
    """Return the number of batches over which statistics are recomputed before an epoch is scored.

    It is 0 if the statistics do not lag.

    Args:
        num_batches: Number of batches of an epoch.
        batch_size: Examples per batch, over all ranks.
        averaged: Whether the weights that are scored are an average.

    Example:
        >>> [count_batches(steps, 32, averaged=True) for steps in (1, 10, 68, 5000)]
        [1, 2, 10, 32]
    """
    if not averaged and num_batches >= _FEW_STEPS:
        return 0
    wanted = min(-(-_ENOUGH_EXAMPLES // batch_size), int(num_batches * _MOST_BATCHES))
    return min(num_batches, max(_LEAST_BATCHES, wanted))


def find_statistics(network: nn.Module, unfreezing: Unfreezing) -> list[_BatchNorm]:
    """Return the normalisation layers whose running statistics training currently changes.

    The network is left in training mode, except for its frozen parts.
    """
    unfreezing.train(network)
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]


@torch.no_grad()
def refresh_statistics(network: nn.Module, norms: Sequence[_BatchNorm], batches: Iterable[Inputs]) -> None:
    """Set the statistics of normalisation layers to their mean over batches, each batch counted equally.

    All other layers run in evaluation mode, without dropout, so the statistics are those of the inputs that a
    layer gets in evaluation. The network is left in evaluation mode.

    Args:
        network: Network in its memory layout; with several ranks, its statistics are shared.
        norms: Normalisation layers of the network, at least one.
        batches: This rank's parts of at least one batch.
    """
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.training = True  # not .train(): timm's normalisation layers contain a dropout
        norm.momentum = None  # torch then takes a mean in which every batch counts equally
    for inputs in batches:
        network(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def copy_state(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of a network's weights and statistics."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
