"""Parameters of the training loop."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field

Positive = Annotated[int, Field(ge=1)]


@dataclass(frozen=True, kw_only=True)
class HostsParams:
    """Hosts that train together: run `make pipeline HOST=address` on the first host and
    `make join HOST=address` on the others.
    """

    most: Positive
    """Largest number of hosts. At the start, the first host waits up to `wait_s` for all of them."""
    least: Positive = 1
    """Smallest number of hosts. With fewer, training waits up to `wait_s` for more hosts before it
    continues."""
    wait_s: Positive = 600
    """Seconds to wait for hosts, at the start and after a host is lost."""
    lost_s: Annotated[int, Field(ge=3)] = 30
    """Seconds without a heartbeat after which a host counts as lost. The ranks of the other hosts then
    continue from the last checkpoint without it."""
    restarts: Annotated[int, Field(ge=0)] = 10
    """How often training restarts by itself after ranks or hosts are lost. A host that comes back does not
    count."""

    def __post_init__(self) -> None:
        if self.least > self.most:
            raise ValueError(
                f"least = {self.least}: must not be more than most = {self.most}; "
                f"set least to {self.most} or less, or raise most"
            )


@dataclass(frozen=True, kw_only=True)
class FitParams:
    """How a network is trained, for any objective."""

    epochs: Positive
    best_by: str = "headline"
    """Validation score by which the best epoch is chosen: `headline`, or another score of the problem, e.g.
    `balanced_accuracy` where classes are rebalanced."""
    batch_size: Positive
    """Examples per optimiser step over all ranks."""
    optimizer: Literal["sgd", "adamw", "muon"] = "sgd"
    """`sgd` uses Nesterov momentum. `muon` makes the updates of convolutions orthogonal and trains the other
    parameters with sgd."""
    lr: Annotated[float, Field(gt=0)]
    """Peak learning rate at this batch size. With muon, it is the rate of the convolutions (0.02 is a good
    start)."""
    rest_lr: Annotated[float, Field(gt=0)] = 0.1
    """Peak learning rate of the parameters that muon trains with sgd: the first layer, the head, biases and
    normalisation."""
    momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of sgd and muon (0.6 is a good start for muon); the first beta of adamw."""
    rest_momentum: Annotated[float, Field(ge=0, lt=1)] = 0.9
    """Momentum of the parameters that muon trains with sgd."""
    weight_decay: Annotated[float, Field(ge=0)] = 5e-4
    """Weight decay; it is not applied to biases and normalisation."""
    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls to zero after the warm-up: `linear`, or `cosine` along a
    cosine."""
    warmup_share: Annotated[float, Field(ge=0, lt=1)] = 0.2
    """Share of the steps in which the learning rate rises to its peak."""
    label_smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    average_decay: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Decay per step of the moving average of the weights; 0 turns averaging off."""
    max_grad_norm: Annotated[float, Field(ge=0)] | Literal["auto"] = "auto"
    """Limit on the norm of all gradients together; larger gradients are scaled down to it. `auto` is four
    times the running mean of the norms: healthy trainings stay within two and a half times that mean, and a
    single unusual batch cannot change the weights much. 0 turns clipping off."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` takes bf16 (fp16 on GPUs without bf16) if the device has matrix units for it and a step of the
    real network agrees with fp32. fp16 scales the loss so that small gradients do not vanish."""
    layout: Literal["auto", "contiguous", "channels-last"] = "auto"
    """Memory layout; `auto` is channels-last."""
    compile: Literal["none", "default", "reduce-overhead", "max-autotune"] = "none"
    """Mode of torch.compile. Compiling takes up to a minute at the start of every training. `reduce-overhead`
    records CUDA graphs. On CPUs, compiling did not pay off."""
    checkpoint_s: Annotated[float, Field(gt=0)] = 30.0
    """Seconds between checkpoints; a checkpoint is also written after every epoch."""
    max_bad_steps: Positive = 10
    """Steps whose loss or gradient is not finite are skipped. After this many skipped steps in a row,
    training goes back to the last good epoch with half the learning rate, at most twice."""

    def check(self, scores: Collection[str], where: str) -> None:
        """Refuse a score that the problem does not have.

        Raises:
            ValueError: Names the parameter, its value and the possible values.
        """
        if self.best_by not in ("headline", *scores):
            raise ValueError(
                f"{where}.best_by = {self.best_by!r}: must be headline or a score of this problem: "
                f"{', '.join(scores)}"
            )
