"""Optimisers, learning rate schedules and the moving average of the weights."""

import inspect
import math

import torch
from torch import Tensor, nn

from temper.engine.muon import Muon
from temper.engine.params import FitParams
from temper.engine.precision import multiplies_bf16

_FEW_CHANNELS = 4


def build_optimizer(network: nn.Module, params: FitParams) -> torch.optim.Optimizer:
    """Return the optimiser that the parameters name; biases and normalisation have no weight decay.

    Source:
        He et al. 2019, arXiv:1812.01187, section 3.1 ("no bias decay").
    """
    _avoid_compiler_import()
    named = [(name, value) for name, value in network.named_parameters() if value.requires_grad]
    groups = [
        {"params": [value for _, value in named if value.dim() > 1], "weight_decay": params.weight_decay},
        {"params": [value for _, value in named if value.dim() <= 1], "weight_decay": 0.0},
    ]
    device = named[0][1].device
    kernels = {"fused": True} if device.type == "cuda" else {"foreach": True}
    if params.optimizer == "muon":
        precision = torch.bfloat16 if multiplies_bf16(device) else torch.float32
        return Muon(
            _split_filters(named, params), lr=params.lr, momentum=params.momentum, precision=precision
        )
    if params.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=params.lr, momentum=params.momentum, nesterov=params.momentum > 0, **kernels
        )
    return torch.optim.AdamW(groups, lr=params.lr, betas=(params.momentum, 0.999), **kernels)


def _split_filters(named: list[tuple[str, nn.Parameter]], params: FitParams) -> list[dict[str, object]]:
    """Return parameter groups for Muon: the filters between the first layer and the head, and all others.

    The others have their own learning rate. Filters over few channels (those of images or of a grouped
    convolution) are only a few numbers each, and the rows of a head are classes: neither benefits from
    orthogonalisation.
    """
    filters = [
        name
        for name, value in named
        if value.dim() == 4 and value.shape[1] > _FEW_CHANNELS and not name.startswith("head.")
    ]
    rest = [(name, value) for name, value in named if name not in filters]
    matrices, vectors = ([value for _, value in rest if (value.dim() > 1) == wide] for wide in (True, False))
    rest_as = {"lr_scale": params.rest_lr / params.lr, "momentum": params.rest_momentum}
    return [
        {
            "params": [value for name, value in named if name in filters],
            "weight_decay": params.weight_decay,
            "filters": True,
        },
        {"params": matrices, "weight_decay": params.weight_decay, **rest_as},
        {"params": vectors, "weight_decay": 0.0, **rest_as},
    ]


def take_step(optimizer: torch.optim.Optimizer) -> None:
    """Call `optimizer.step()` without the wrapper that torch adds for torch.compile.

    The optimiser's hooks are left out, too.
    """
    with torch.no_grad():
        inspect.unwrap(type(optimizer).step)(optimizer)


def _avoid_compiler_import() -> None:
    """Keep optimisers from importing torch.compile's code, which takes 3.5 s at the start of a training.

    On its first call, an optimiser's method imports this code to mark itself as not to be compiled, unless it
    finds the mark (torch/_compile.py). If a later torch uses another mark, the import takes place again, and
    nothing else changes.
    """
    for method in vars(torch.optim.Optimizer).values():
        plain = getattr(method, "__wrapped__", None)
        if plain is not None and not hasattr(plain, "__dynamo_disable"):
            setattr(plain, "__dynamo_disable", plain)


def learning_rate(params: FitParams, step: int, num_steps: int) -> float:
    """Return the learning rate of a step: a linear rise to the peak, then a fall to nearly zero.

    Args:
        params: Parameters of the fit.
        step: Number of the step, from 0.
        num_steps: Number of steps of the whole training.

    Example:
        >>> fit = FitParams(epochs=1, batch_size=1, lr=1.0, warmup_share=0.5)
        >>> [learning_rate(fit, step, 4) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
    """
    warmup = round(params.warmup_share * num_steps)
    if step < warmup:
        return params.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, num_steps - warmup)
    left = 1 - done if params.schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
    return params.lr * left


class WeightAverage:
    """Exponential moving average of a network's weights; its statistics are averaged in the same way.

    In early steps the decay is lower, at most (1 + steps) / (10 + steps), so that the average forgets the
    initial weights.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values: dict[str, Tensor] = {
            name: value.detach().clone() for name, value in network.state_dict().items()
        }

    @torch.no_grad()
    def update(self, network: nn.Module, step: int) -> None:
        """Update the average with the network's weights after `step` finished steps."""
        decay = min(self.decay, (1 + step) / (10 + step))
        now = network.state_dict()
        floats = [name for name, value in now.items() if value.is_floating_point()]
        torch._foreach_lerp_(
            [self.values[name] for name in floats], [now[name] for name in floats], 1 - decay
        )
        for name in now.keys() - set(floats):
            self.values[name].copy_(now[name])
