"""A roofline: how close a training comes to the machine's matrix product, and the time of each layer."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn

from peers.job import Data, device
from temper.compress.cost import measure_cost
from temper.compress.export import Deployable, export
from temper.engine.precision import Mode
from temper.inputs.image_input import image_of
from temper.networks.build import build_network

PASSES = 3
"""Multiplications of a training step, relative to those of a forward pass.

One pass is forward, one is backward for the gradients of the weights, and one is backward for the gradients
of the feature maps. The first layer needs no gradient of its input, so the true number is a little smaller.
"""
_SIDES = (1024, 2048, 4096)
_RUNS, _WARM_UP = 9, 2


def roof(dtype: torch.dtype) -> float:
    """Measure the multiply-adds per second of a square matrix product, in all threads.

    Returns:
        The best of the medians over a few sizes.
    """
    best = 0.0
    for side in _SIDES:
        left, right = (torch.randn(side, side, device=device(), dtype=dtype) for _ in range(2))
        best = max(best, side**3 / _seconds(lambda: left @ right))  # noqa: B023
    return best


def multiply_adds(data: Data) -> int:
    """Return the multiply-adds of one image's forward pass, as counted in the exported file."""
    network = build_network(
        data.problem, data.params.train.backbone, data.facts, seed=0, head=data.params.train.head
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.onnx"
        export(Deployable(network.eval(), data.problem, data.facts, 1.0), data.facts, path, {})
        return measure_cost(path, data.facts).macs


@dataclass(frozen=True)
class Layer:
    """One convolution or matrix product in a training step."""

    name: str
    shape: tuple[int, ...]
    """Shape of its output."""
    macs: int
    """Multiply-adds of the forward pass of a batch."""
    backward_macs: int
    """Multiply-adds of the backward pass: `macs` for the gradient of the weights, and again `macs` for that
    of the feature maps, which the first layer does not need.
    """
    forward_s: float
    backward_s: float


def time_layers(data: Data, mode: Mode) -> tuple[list[Layer], float]:
    """Time every convolution and matrix product of the network separately, on inputs of its own shape.

    Args:
        data: Gives the network and the batch size.
        mode: Precision and layout.

    Returns:
        The layers in order, and the seconds of the whole network forward and backward. The difference to the
        sum of the layers is normalisation, activations, sums and the loss.
    """
    network = mode.arrange(data.network().to(device())).train()
    image = image_of(data.facts)
    size = (data.params.train.fit.batch_size, image.channels, image.height_px, image.width_px)
    images = mode.arrange_input(torch.randn(size, device=device()))
    found: list[tuple[str, nn.Module, Tensor, tuple[int, ...]]] = []
    hooks = [
        module.register_forward_hook(
            lambda module, inputs, output, name=name: found.append(
                (name, module, inputs[0].detach(), output.shape)
            )
        )
        for name, module in network.named_modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with mode.autocast(device()):
        network(images)
    for hook in hooks:
        hook.remove()
    layers = []
    for number, (name, module, maps, shape) in enumerate(found):
        forward, backward = _passes(module, maps.requires_grad_(number > 0), mode)
        macs = prod(shape) * prod(module.weight.shape[1:])
        layers.append(Layer(name, tuple(shape), macs, macs * (2 if number else 1), forward, backward))
    return layers, sum(_passes(network, images, mode))


def _passes(module: nn.Module, maps: Tensor, mode: Mode) -> tuple[float, float]:
    """Measure the seconds of a module's forward pass and of its backward pass.

    The backward pass computes the gradients of the weights, and of `maps` if `maps` requires them.
    """
    wanted = [*module.parameters(), *([maps] if maps.requires_grad else [])]
    with mode.autocast(device()):
        gradient = torch.randn_like(module(maps))

    def forward() -> Tensor:
        with mode.autocast(device()):
            return module(maps)

    both = _seconds(lambda: torch.autograd.grad(forward(), wanted, gradient))
    alone = _seconds(forward)
    return alone, max(both - alone, 0.0)


def _seconds(call: Callable[[], object]) -> float:
    """Measure the median seconds of a call, after a warm-up."""
    times = []
    for _ in range(_WARM_UP + _RUNS):
        started = time.perf_counter()
        call()
        if device().type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return median(times[_WARM_UP:])
