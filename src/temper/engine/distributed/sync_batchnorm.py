"""Batch normalisation over all ranks, so that two of them compute what one would at an equal global batch.

torch's SyncBatchNorm knows GPUs only; this one works with gloo and NCCL alike. Layers that normalise each example by itself need
nothing of the kind.
"""

from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from temper.problem import Inputs

_PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)
_WITH_ACTIVATION = "BatchNormAct2d"
"""timm's: batch normalisation, then `drop` and `act`. Known by name, since timm takes seconds to import."""
_MARK = "shares_statistics"


def synchronise_statistics(network: nn.Module) -> None:
    """Let every batch normalisation of a network take its statistics over all ranks, in place.

    Raises:
        ValueError: If the network holds one of an unknown kind, whose forward pass may do more than normalise.
    """
    for name, module in network.named_modules():
        kind: Any = type(module)
        if not issubclass(kind, _BatchNorm) or hasattr(kind, _MARK):
            continue
        if kind not in _PLAIN and kind.__name__ != _WITH_ACTIVATION:
            raise ValueError(
                f"the backbone's layer {name} is a {kind.__name__}, whose statistics cannot be shared by several ranks; "
                "set ranks to 1, or take another backbone"
            )
        module.__class__ = _shared(kind)


@torch.no_grad()
def check_single(network: nn.Module, inputs: Inputs) -> None:
    """Refuse batch normalisation of a single value: where parts of a batch are single examples, and a map is one cell.

    Args:
        network: Ready to answer; is left in evaluation mode.
        inputs: One example, as the network sees it.

    Raises:
        ValueError: Names the layer and the way out.
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
            f"the network is trained on one example at a time, and the batch normalisation {found[0]} sees one value per channel of it, which has "
            "no variance; set fit.batch_size to 2 or more (if memory ran out: make the images smaller, by prepare.height_px), enlarge the images, or "
            "take a backbone with fewer strides"
        )


@cache
def _shared(plain: Any) -> Any:
    """A class of batch normalisation whose statistics, in training, are those of all ranks."""

    def forward(self: Any, values: Tensor) -> Tensor:
        if not self.training:
            return plain.forward(self, values)
        normal = _normalise(self, values)
        return self.act(self.drop(normal)) if plain.__name__ == _WITH_ACTIVATION else normal

    # Of one class only: a layer of it can then become one of this.
    return type(f"Shared{plain.__name__}", (plain,), {"forward": forward, _MARK: True})


def _normalise(norm: _BatchNorm, values: Tensor) -> Tensor:
    axes = [axis for axis in range(values.dim()) if axis != 1]
    shape = [1, -1] + [1] * (values.dim() - 2)
    wide = values.float()
    # Counted, not multiplied by the number of ranks: their parts of a batch may differ by an example.
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
    """A sum over ranks; its gradient is the sum of theirs."""

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
    # A single value, which torch refuses, has no variance to correct.
    norm.running_var.lerp_(variance * count / (count - 1).clamp(min=1), share)
