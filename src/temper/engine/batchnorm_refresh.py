"""Statistics of batch normalisation, taken anew for the very weights that are scored and kept.

Running statistics are those of weights that were: of the last ten or twenty steps, or, where weights are averaged, an average of
such averages. Where the weights have moved on since, a network answers by statistics that are not its own, and its score says
little of it. So before an epoch is scored, some batches of training examples run through the network forward only, and every
normalisation takes the mean over them.

It is done where statistics lag:

- weights are averaged (`fit.average_decay`): nobody ever ran the averaged network, or
- an epoch has fewer than 100 steps: then the weights move far within the ten steps or so that running statistics remember.

It is not done to what does not lag: networks without batch normalisation, layers that are frozen, and statistics that
`transfer.freeze_statistics` holds. The network that goes on training keeps its own.

Source:
    Izmailov et al. 2018, arXiv:1803.05407, section 3.2 (averaged weights need statistics of their own);
    Wu and Johnson 2021, arXiv:2105.07576, section 3 (mean over batches instead of a moving one; 1,000 to 10,000 examples are enough).
"""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from temper.engine.unfreezing import Thawing
from temper.problem import Inputs

_FEW_STEPS = 100
_ENOUGH_EXAMPLES = 1000
_MOST_BATCHES = 0.15
"""Share of an epoch's batches: forward passes are a third of a step, so this is a twentieth of an epoch's work."""
_LEAST_BATCHES = 2


def count_batches(num_batches: int, batch_size: int, *, averaged: bool) -> int:
    """Over how many batches statistics are taken before an epoch is scored; 0 where they do not lag.

    Args:
        num_batches: Of an epoch.
        batch_size: Examples of each, over all ranks.
        averaged: Whether the weights that are scored are an average.

    Example:
        >>> [count_batches(steps, 32, averaged=True) for steps in (1, 10, 68, 5000)]
        [1, 2, 10, 32]
    """
    if not averaged and num_batches >= _FEW_STEPS:
        return 0
    wanted = min(-(-_ENOUGH_EXAMPLES // batch_size), int(num_batches * _MOST_BATCHES))
    return min(num_batches, max(_LEAST_BATCHES, wanted))


def find_statistics(network: nn.Module, thawing: Thawing) -> list[_BatchNorm]:
    """The normalisations whose running statistics training moves now."""
    thawing.train(network)
    return [
        module
        for module in network.modules()
        if isinstance(module, _BatchNorm) and module.training and module.track_running_stats
    ]


@torch.no_grad()
def refresh_statistics(network: nn.Module, norms: Sequence[_BatchNorm], batches: Iterable[Inputs]) -> None:
    """Let normalisations take the mean of their statistics over batches, each counted alike; leaves the network in evaluation mode.

    Everything else runs as it will answer, without dropout, and so with the statistics that it will meet.

    Args:
        network: In its layout; on several ranks, with statistics that are shared.
        norms: Of the network, at least one.
        batches: This rank's parts of at least one batch.
    """
    network.eval()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.training = True  # not .train(): timm's normalisations hold a dropout
        norm.momentum = None  # torch's word for a mean in which every batch counts alike
    for inputs in batches:
        network(inputs)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()


def copy_state(network: nn.Module) -> dict[str, Tensor]:
    """A network's weights and statistics, apart from it."""
    return {name: value.detach().clone() for name, value in network.state_dict().items()}
