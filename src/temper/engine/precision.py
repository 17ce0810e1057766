"""Which precision and memory layout are fastest here, tried on the real network with a real batch.

bf16 is several times faster on processors with matrix units for it and several times slower on others, and has had wrong
kernels for some shapes; so it is timed and held against fp32 before it is taken. What is less usual must be clearly
faster to be preferred, so that equal machines choose alike however noisy they are.
"""

import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from statistics import median
from typing import Literal

import torch
from torch import Tensor, nn

from temper.engine.params import FitParams
from temper.problem import Batch, Objective

_CLEARLY = 1.25
_MOST_DEVIATION = 0.05
_TIMED_STEPS = 3


@dataclass(frozen=True)
class Mode:
    """A way to run a network's steps."""

    precision: Literal["fp32", "bf16"]
    layout: Literal["contiguous", "channels-last"]

    def autocast(self, device: torch.device) -> AbstractContextManager[object]:
        """The context in which the network runs."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(device.type, dtype=torch.bfloat16)

    def arrange(self, network: nn.Module) -> nn.Module:
        """The network's weights in this layout; in place."""
        last = self.layout == "channels-last"
        return network.to(memory_format=torch.channels_last if last else torch.contiguous_format)

    def arrange_input(self, image: Tensor) -> Tensor:
        """Pictures in this layout."""
        last = self.layout == "channels-last"
        return image.contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)


MODES = (
    Mode("fp32", "channels-last"),
    Mode("fp32", "contiguous"),
    Mode("bf16", "channels-last"),
    Mode("bf16", "contiguous"),
)


def allowed_modes(params: FitParams) -> list[Mode]:
    """The modes that the parameters leave open."""
    return [
        mode
        for mode in MODES
        if params.precision in ("auto", mode.precision) and params.layout in ("auto", mode.layout)
    ]


def choose_mode(
    network: nn.Module, objective: Objective, batch: Batch, params: FitParams, device: torch.device
) -> tuple[Mode, dict[str, float]]:
    """Time the allowed modes and take the fastest that agrees with fp32.

    The network's weights and statistics are left as they were.

    Returns:
        The mode, and seconds per step (median) of each mode tried, for the journal.
    """
    modes = allowed_modes(params)
    if len(modes) == 1:
        return modes[0], {}
    before = {name: value.clone() for name, value in network.state_dict().items()}
    network.train()
    exact = float(_step(network, objective, batch, MODES[0], device))
    seconds: dict[Mode, float] = {}
    for mode in modes:
        mode.arrange(network)
        network.load_state_dict(before)
        value = float(_step(network, objective, batch, mode, device))
        if abs(value - exact) > _MOST_DEVIATION * max(abs(exact), 1e-3):
            continue
        times = []
        for _ in range(_TIMED_STEPS):
            started = time.perf_counter()
            _step(network, objective, batch, mode, device)
            times.append(time.perf_counter() - started)
        seconds[mode] = median(times)
    network.load_state_dict(before)
    network.zero_grad(set_to_none=True)
    return prefer(seconds) if seconds else modes[0], {
        f"{mode.precision} {mode.layout}": taken for mode, taken in seconds.items()
    }


def prefer(seconds: dict[Mode, float]) -> Mode:
    """The mode to take: fp32 unless bf16 is clearly faster, then channels-last unless contiguous is clearly faster.

    Args:
        seconds: Per step, of each mode that agreed with fp32; not empty.
    """
    fastest = {
        precision: min((taken for mode, taken in seconds.items() if mode.precision == precision), default=float("inf"))
        for precision in ("fp32", "bf16")
    }
    precision = "bf16" if fastest["bf16"] * _CLEARLY < fastest["fp32"] else "fp32"
    layouts = {mode.layout: mode for mode in seconds if mode.precision == precision}
    last, plain = layouts.get("channels-last"), layouts.get("contiguous")
    if last is None or plain is None:
        return next(iter(layouts.values()))
    return plain if seconds[plain] * _CLEARLY < seconds[last] else last


def _step(network: nn.Module, objective: Objective, batch: Batch, mode: Mode, device: torch.device) -> Tensor:
    inputs = {**batch.inputs, "image": mode.arrange_input(batch.inputs["image"])}
    arranged = Batch(inputs, batch.targets, batch.weights, batch.others, batch.shares)
    with mode.autocast(device):
        loss = objective(network, arranged)["loss"]
    loss.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return loss.detach()
