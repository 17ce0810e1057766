"""Choose the batch size of a fit, and the optimiser and its rates, which depend on it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from temper.engine.suggested_rates import suggest_rates

_STEPS_OF_EPOCH = 30
"""An epoch has at least this many steps if batches of 32 allow it."""
_LEAST_BATCH, _MOST_BATCH = 32, 256
_SURE = 0.8
PRETRAINED_BATCH = 32


@dataclass(frozen=True)
class Fit:
    """Settings for fitting a network."""

    epochs: int
    batch_size: int
    num_steps: int
    rates: Mapping[str, float | str]
    """The other fields of `FitParams`, the optimiser among them."""


def choose_batch(draws: int) -> int:
    """Return a power of two from 32 to 256; a smaller one only if an epoch has too few images.

    Example:
        >>> [choose_batch(draws) for draws in (20, 300, 2000, 5000, 50_000)]
        [16, 32, 64, 128, 256]
    """
    batch = _LEAST_BATCH
    # Some examples may turn out to be damaged or duplicates.
    while batch > max(1, _SURE * draws):
        batch //= 2
    while batch < _MOST_BATCH and draws // (2 * batch) >= _STEPS_OF_EPOCH - 1:
        batch *= 2
    return batch


def choose_fit(*, draws: int, epochs: int, pretrained: bool) -> Fit:
    """Choose by the number of images: adamw for pretrained weights, muon for training from scratch."""
    batch_size = min(PRETRAINED_BATCH, choose_batch(draws)) if pretrained else choose_batch(draws)
    num_steps = epochs * max(1, draws // batch_size)
    optimizer: Literal["adamw", "muon"] = "adamw" if pretrained else "muon"
    return Fit(epochs, batch_size, num_steps, suggest_rates(optimizer, batch_size, num_steps))
