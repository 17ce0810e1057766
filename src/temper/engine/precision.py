"""Which precision and memory layout a network trains in: by what the device has, and held against fp32 on a real batch.

No clock is asked. Timings waver with whatever else the machine does, and a mode chosen by them made another model of the
same seed. The rule is: bf16 where the device multiplies matrices of it in hardware, fp16 on GPUs that only have that, channels-last
always. What it costs or gains on a machine is what `bench/modes.py` measures; where it is wrong there, name `fit.precision` and `fit.layout`.
Half precision has had wrong kernels for some shapes, so it is taken only if a step on the real network agrees with fp32. One such kernel is known by its
shape, since a step may hide it: oneDNN's bf16 gradient of a convolution whose stride is larger than its map (`docs/facts.md`).

Gradients below 6e-8 vanish in fp16, so losses are multiplied by a large number, and gradients divided by it before they are used.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from temper.engine.params import FitParams
from temper.problem import Batch, Objective

Half = Literal["bf16", "fp16"]

FIRST_LOSS_SCALE = 2.0**16
"""As torch.amp.GradScaler's."""
SCALE_GROWS_AFTER = 2000
"""Good steps after which the loss scale is doubled; as torch.amp.GradScaler's."""
_MOST_DEVIATION = 0.05
_TENSOR_CORES = (7, 0)
"""Compute capability of the first GPUs that multiply fp16 matrices in hardware."""
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Mode:
    """A way to run a network's steps."""

    precision: Literal["fp32", "bf16", "fp16"]
    layout: Literal["contiguous", "channels-last"]

    @property
    def first_loss_scale(self) -> float:
        """By what losses are multiplied at the beginning."""
        return FIRST_LOSS_SCALE if self.precision == "fp16" else 1.0

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which the network runs."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=_TYPES[self.precision])

    def arrange(self, network: nn.Module) -> nn.Module:
        """The network's weights in this layout; in place."""
        last = self.layout == "channels-last"
        return network.to(memory_format=torch.channels_last if last else torch.contiguous_format)

    def arrange_input(self, image: Tensor) -> Tensor:
        """Images in this layout."""
        last = self.layout == "channels-last"
        return image.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


def choose_mode(
    network: nn.Module, objective: Objective, batch: Batch, params: FitParams, device: torch.device
) -> tuple[Mode, float | None]:
    """The mode in which to train: as the parameters say; what they leave open, by the rule above.

    The network's weights and statistics are left as they were.

    Returns:
        The mode, and by which share the loss of one step in half precision deviates from fp32's; None where that was not tried.
    """
    layout = "channels-last" if params.layout == "auto" else params.layout
    exact, asked = Mode("fp32", layout), params.precision
    half = half_precision(device) if asked == "auto" else asked
    if half is None or half == "fp32":
        return exact, None
    rough = Mode(half, layout)
    if asked != "auto" and device.type != "cpu":
        return rough, None
    with _watch_strides(network) as overstepping:
        wanted = _loss(network, objective, batch, exact, device)
    if overstepping and device.type == "cpu":
        if asked == "auto":
            return exact, None
        raise ValueError(
            f"fit.precision = {asked!r}: {overstepping[0]}, and gradients of such a layer in half precision are wrong on processors: oneDNN "
            "reads memory that nobody wrote. Set it to auto or fp32, enlarge the images (prepare.height_px), or take a network with fewer strides"
        )
    if asked != "auto":
        return rough, None
    deviation = abs(_loss(network, objective, batch, rough, device) - wanted) / max(abs(wanted), 1e-3)
    return rough if deviation <= _MOST_DEVIATION else exact, deviation


@contextmanager
def _watch_strides(network: nn.Module) -> Iterator[list[str]]:
    """Collect the convolutions that step further than their map is wide, as words, while a network runs."""
    found: list[str] = []

    def look(name: str, module: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        sides, strides = inputs[0].shape[2:], module.stride
        if any(stride > side for stride, side in zip(strides, sides, strict=True)):
            size, step = ("x".join(map(str, each)) for each in (sides, strides))
            found.append(f"the convolution {name} has a stride of {step} on a map of {size} px")

    named = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_pre_hook(partial(look, name)) for name, module in named]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def half_precision(device: torch.device) -> Half | None:
    """The half precision in which a device multiplies matrices in hardware; None if there is none."""
    if multiplies_bf16(device):
        return "bf16"
    return (
        "fp16"
        if device.type == "cuda" and torch.cuda.get_device_capability(device) >= _TENSOR_CORES
        else None
    )


def multiplies_bf16(device: torch.device) -> bool:
    """Whether a device has units that multiply bf16 matrices; bf16 on vector units alone is slower than fp32 (`docs/log.md`)."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


def _loss(network: nn.Module, objective: Objective, batch: Batch, mode: Mode, device: torch.device) -> float:
    """The loss of one step forward and backward, after which the network is as it was."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inputs = {**batch.inputs, "image": mode.arrange_input(batch.inputs["image"])}
    mode.arrange(network).train()
    with mode.autocast(device):
        loss = objective(network, Batch(inputs, batch.targets, batch.weights, batch.others, batch.shares))[
            "loss"
        ]
    loss.backward()
    network.zero_grad(set_to_none=True)
    network.load_state_dict(before)
    return float(loss.detach())
