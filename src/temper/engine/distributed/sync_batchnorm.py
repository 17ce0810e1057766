"""Batch normalisation over all ranks: two ranks compute the same as one rank with the same global batch.

torch's SyncBatchNorm supports only GPUs; this one works with gloo and NCCL. Layers that normalise each
example by itself need no such change.
"""

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from temper.problem import Inputs

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WITH_ACTIVATION = "BatchNormAct2d"
"""timm's batch normalisation, followed by `drop` and `act`. It is recognised by its name, because importing
timm takes seconds."""
_MARK = "shares_statistics"


def synchronise_statistics(network: nn.Module) -> None:
    """Make every batch normalisation of a network take its statistics over all ranks, in place.

    Raises:
        ValueError: If the network contains one of an unknown class, whose forward pass may do more than
            normalise.
    """
    for name, module in network.named_modules():
        kind: Any = type(module)
        if not issubclass(kind, _BatchNorm) or hasattr(kind, _MARK):
            continue
        if kind not in _PLAIN and kind.__name__ != _WITH_ACTIVATION:
            raise ValueError(
                f"the backbone's layer {name} has the class {kind.__name__}: several ranks cannot share the "
                "statistics of this class; set ranks to 1, or use another backbone"
            )
        module.__class__ = _shared(kind)


@torch.no_grad()
def check_single(network: nn.Module, inputs: Inputs) -> None:
    """Refuse batch normalisation of a single value: parts of one example, and a feature map of one cell.

    Args:
        network: Network that is ready to run; it is left in evaluation mode.
        inputs: One example, as the input of the network.

    Raises:
        ValueError: If there is such a layer; names the layer and the way out.
    """
    found: list[str] = []

    def look(name: str, module: nn.Module, values: tuple[Tensor, ...]) -> None:
        if values[0].numel() == values[0].shape[1]:
            found.append(name)

    named = [(name, module) for name, module in network.named_modules() if isinstance(module, _BatchNorm)]
    handles = [module.register_forward_pre_hook(partial(look, name)) for name, module in named]
    network.eval()(inputs)
    for handle in handles:
        handle.remove()
    if found:
        raise ValueError(
            f"the network is trained on one example at a time, and the batch normalisation {found[0]} sees "
            "one value per channel, which has no variance; set fit.batch_size to 2 or more (if memory ran "
            "out, make the images smaller with prepare.height_px), enlarge the images, or use a backbone "
            "with fewer strides"
        )


@cache
def _shared(plain: Any) -> Any:
    """Return a class of batch normalisation whose training statistics are those of all ranks."""

    def forward(self: Any, values: Tensor) -> Tensor:
        if not self.training:
            return plain.forward(self, values)
        normal = _normalise(self, values)
        return self.act(self.drop(normal)) if plain.__name__ == _WITH_ACTIVATION else normal

    # The plain class is the only base, so that a layer can change its class to this one.
    return type(f"Shared{plain.__name__}", (plain,), {"forward": forward, _MARK: True})


def _normalise(norm: _BatchNorm, values: Tensor) -> Tensor:
    axes = [axis for axis in range(values.dim()) if axis != 1]
    shape = [1, -1] + [1] * (values.dim() - 2)
    wide = values.float()
    # Counts are summed, not multiplied by the number of ranks: the ranks' parts of a batch may differ by one
    # example.
    count = wide.new_full((1,), values.numel() / values.shape[1])
    total: Tensor = _Sum.apply(torch.cat([wide.sum(axes), wide.square().sum(axes), count]))
    mean, square = (total[:-1] / total[-1]).chunk(2)
    variance = (square - mean.square()).clamp(min=0)
    if norm.track_running_stats:
        _track(norm, mean.detach(), variance.detach(), total[-1].detach())
    scale = (variance + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = norm.weight * scale
    offset = -mean * scale
    if norm.bias is not None:
        offset = norm.bias + offset
    return (wide * scale.view(shape) + offset.view(shape)).to(values.dtype)


class _Sum(torch.autograd.Function):
    """Sum over ranks; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(context: Any, values: Tensor) -> Tensor:
        total = values.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(context: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].contiguous().clone()
        distributed.all_reduce(total)
        return total


@torch.no_grad()
def _track(norm: _BatchNorm, mean: Tensor, variance: Tensor, count: Tensor) -> None:
    assert (
        norm.running_mean is not None
        and norm.running_var is not None
        and norm.num_batches_tracked is not None
    )
    norm.num_batches_tracked += 1
    share = 1 / float(norm.num_batches_tracked) if norm.momentum is None else norm.momentum
    norm.running_mean.lerp_(mean, share)
    # torch refuses a single value; here, its variance is left uncorrected.
    norm.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)
