"""Parameters of the training loop."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class HostsParams:
    """Machines that train together: on the first one `make pipeline HOST=address`, on the others `make join HOST=address`."""

    most: Positive
    """How many there are at most; the first one waits for them before it begins."""
    least: Positive = 1
    """With fewer, training waits for more instead of going on."""
    wait_s: Positive = 600
    """How long hosts are waited for, at the beginning and after a loss."""
    lost_s: Annotated[int, Field(ge=3)] = 30
    """A host that has not been heard of for so long is lost; ranks then go on from the last checkpoint without it."""
    restarts: Annotated[int, Field(ge=0)] = 10
    """How often training goes on by itself after ranks or hosts were lost; a host that comes back does not count."""

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError(
                f"least = {self.least} hosts are more than most = {self.most}; make it {self.most} or less"
            )


@dataclass(frozen=True, kw_only=True)
class FitParams:
    """How a network is fitted, whatever its objective."""

    epochs: Positive
    batch_size: Positive
    """Examples per optimiser step over all ranks."""
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    """`sgd` is with Nesterov momentum; `muon` makes the steps of convolutions orthogonal and trains the rest by sgd."""
    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate at this batch size; under muon that of the convolutions (0.02 is a good start)."""
    rest_lr: Annotated[float, Field(gt=0)] = 0.1
    """Peak learning rate of what muon leaves to sgd: the first layer, the head, biases and normalisation."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of sgd and muon (0.6 is a good start for that); the first beta of adamw."""
    rest_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Of what muon leaves to sgd."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Not applied to biases and normalisation."""
    schedule: Literal["one-cycle", "cosine"] = "one-cycle"
    """After the warm-up: linearly, or along a cosine, to zero."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the steps in which the learning rate climbs to its peak."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Of the moving average of the weights, per step; 0 turns averaging off."""
    max_grad_norm: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Of all gradients together; longer ones are shortened to it. `auto` is four times the running mean of the norms: healthy trainings
    stay within two and a half times that mean, and no odd batch throws the weights far away. 0 turns clipping off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` takes bf16 (on GPUs without it fp16) where the device has matrix units for it and a step on the real network agrees with
    fp32. fp16 scales the loss, so that small gradients do not vanish."""
    layout: Literal["auto", "contiguous", "channels-last"] = "auto"
    """`auto` is channels-last."""
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"
    """torch.compile's mode. It takes up to a minute at the start of every training; `reduce-overhead` records CUDA graphs. On processors
    it did not pay."""
    checkpoint_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds between checkpoints; one is also written after every epoch."""
    max_bad_steps: Positive = 10
    """Steps whose loss or gradient is not finite are skipped; after so many in a row training goes back to the last good epoch with
    half the learning rate, twice at most."""
