"""Chooses the precision and memory layout of a training by the device, and checks them against fp32.

The choice does not depend on timings. Timings vary with the load of the machine, so a choice by timings could
give different models for the same seed. The rule is: bf16 if the device multiplies bf16 matrices in hardware;
fp16 on GPUs that can do this only with fp16; always channels-last. `bench/modes.py` measures what the rule
costs or gains on a machine. If the rule is wrong there, set `fit.precision` and `fit.layout`.

Half precision has had wrong kernels for some shapes, so it is used only if a step of the real network on a
real batch agrees with fp32. One such kernel is detected by its shape, because a step may not reveal it:
oneDNN's bf16 gradient of a convolution whose stride is larger than its feature map (`docs/facts.md`).
Depthwise convolutions have no matrices to multiply, and their bf16 gradient is slow on processors. There they
compute in fp32, and the rest of the network in bf16.

Gradients below 6e-8 vanish in fp16. The loss is therefore multiplied by a large number, and the gradients are
divided by it before they are used.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from temper.engine.params import FitParams
from temper.problem import Batch, Inputs, Objective

Half = Literal["bf16", "fp16"]

FIRST_LOSS_SCALE = 2.0**16
"""Initial loss scale, as in torch.amp.GradScaler."""
SCALE_GROWS_AFTER = 2000
"""Number of good steps after which the loss scale is doubled, as in torch.amp.GradScaler."""
_MOST_DEVIATION = 0.05
_TENSOR_CORES = (7, 0)
"""Compute capability of the first GPUs that multiply fp16 matrices in hardware."""
_MARK = "exact_on_cpu"
_TYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Mode:
    """Precision and memory layout in which a network's steps run."""

    precision: Literal["fp32", "bf16", "fp16"]
    layout: Literal["contiguous", "channels-last"]

    @property
    def first_loss_scale(self) -> float:
        """Initial factor by which losses are multiplied."""
        return FIRST_LOSS_SCALE if self.precision == "fp16" else 1.0

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """Return the context in which the network runs."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=_TYPES[self.precision])

    def arrange(self, network: nn.Module) -> nn.Module:
        """Convert the network's weights to this layout, in place, and return the network.

        In bf16, depthwise convolutions are changed so that they compute in fp32 on a CPU.
        """
        if self.precision == "bf16":
            for module in network.modules():
                if isinstance(module, nn.Conv2d) and module.groups == module.in_channels > 1:
                    kind: Any = type(module)
                    module.__class__ = _exact(kind)
        last = self.layout == "channels-last"
        return network.to(memory_format=torch.channels_last if last else torch.contiguous_format)

    def arrange_inputs(self, inputs: Inputs) -> Inputs:
        """Return inputs in this layout, which concerns those with channels, rows and columns."""
        last = self.layout == "channels-last"
        layout = torch.channels_last if last else torch.contiguous_format

        def arrange(value: Tensor) -> Tensor:
            if value.dim() < 4:
                return value
            # The frames of a clip are images.
            flat = value.flatten(0, -4).contiguous(memory_format=layout)
            return flat if value.dim() == 4 else flat.unflatten(0, value.shape[:-3])

        return {name: arrange(value) for name, value in inputs.items()}


def choose_mode(
    network: nn.Module, objective: Objective, batch: Batch, params: FitParams, device: torch.device
) -> tuple[Mode, float | None]:
    """Choose the mode of a training: as the parameters say, and for `auto` by the rule of this module.

    The network's weights and statistics are left unchanged.

    Returns:
        The mode, and the relative deviation of the loss of one step in half precision from that in fp32; None
        if it was not measured.

    Raises:
        ValueError: If the parameters name a half precision in which this network's gradients are wrong on a
            CPU.
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
            f"fit.precision = {asked!r}: {overstepping[0]}; on CPUs, the gradients of this layer "
            "are wrong in half precision, because oneDNN reads uninitialised memory; set fit.precision to "
            "auto or fp32, enlarge the images (prepare.height_px), or use a network with fewer strides"
        )
    if asked != "auto":
        return rough, None
    deviation = abs(_loss(network, objective, batch, rough, device) - wanted) / max(abs(wanted), 1e-3)
    return rough if deviation <= _MOST_DEVIATION else exact, deviation


@contextmanager
def _watch_strides(network: nn.Module) -> Iterator[list[str]]:
    """Collect, during a run, descriptions of the convolutions whose stride exceeds their feature map."""
    found: list[str] = []

    def look(name: str, module: nn.Conv2d, inputs: tuple[Tensor, ...]) -> None:
        sides, strides = inputs[0].shape[2:], module.stride
        if any(stride > side for stride, side in zip(strides, sides, strict=True)):
            size, step = ("x".join(map(str, each)) for each in (sides, strides))
            found.append(f"the convolution {name} has a stride of {step} on a feature map of {size} px")

    named = [(name, module) for name, module in network.named_modules() if isinstance(module, nn.Conv2d)]
    handles = [module.register_forward_pre_hook(partial(look, name)) for name, module in named]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


def half_precision(device: torch.device) -> Half | None:
    """Return the half precision in which a device multiplies matrices in hardware; None if there is none."""
    if multiplies_bf16(device):
        return "bf16"
    return (
        "fp16"
        if device.type == "cuda" and torch.cuda.get_device_capability(device) >= _TENSOR_CORES
        else None
    )


def multiplies_bf16(device: torch.device) -> bool:
    """Return whether a device has units that multiply bf16 matrices.

    bf16 on vector units alone is slower than fp32 (`docs/log.md`).
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu.get_capabilities().get("amx_bf16"))


@cache
def _exact(plain: Any) -> Any:
    """Return a class of convolution that computes in fp32 on a CPU, also inside autocast.

    On a processor with AMX, a step of timm's tf_efficientnet_lite0 takes half as long as with depthwise
    convolutions in bf16 (`docs/decisions/0007-modes-without-a-clock.md`).
    """
    if hasattr(plain, _MARK):
        return plain

    def forward(self: Any, values: Tensor) -> Tensor:
        if values.device.type != "cpu":
            return plain.forward(self, values)
        with torch.autocast("cpu", enabled=False):
            return plain.forward(self, values.float())

    # The plain class is the only base, so that a layer can change its class to this one.
    return type(f"Exact{plain.__name__}", (plain,), {"forward": forward, _MARK: True})


def _loss(network: nn.Module, objective: Objective, batch: Batch, mode: Mode, device: torch.device) -> float:
    """Return the loss of one step forward and backward; the network's state is restored afterwards."""
    before = {name: value.clone() for name, value in network.state_dict().items()}
    inputs = mode.arrange_inputs(batch.inputs)
    mode.arrange(network).train()
    with mode.autocast(device):
        loss = objective(network, replace(batch, inputs=inputs))["loss"]
    loss.backward()
    network.zero_grad(set_to_none=True)
    network.load_state_dict(before)
    return float(loss.detach())
