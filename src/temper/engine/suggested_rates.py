"""Suggested rates: values of `FitParams` for an optimiser, a batch size and a number of steps.

They help to write a params.yaml; training does not use them. This module does not import torch.

The anchors are recipes that work in this project (`docs/log.md`):

- muon 0.06 with batches of 256, and averages over 100 of 1,500 steps (the default project)
- adamw 1e-3 with batches of 32 and decay 0.02 (fine-tuning of timm's networks)
- sgd 0.2 with batches of 256. Scaled to the batch size, this is lower than the rates that two projects
  tolerate (0.3 with 256, 0.1 with 64), and lower than the rates at which the scores of a third project jumped
  from epoch to epoch (0.05 to 0.1 with batches of 32).

Sources:
    sgd, rate in proportion to the batch size: Goyal et al. 2017, arXiv:1706.02677, section 2.1. Square root
    for large batches: Hoffer, Hubara and Soudry 2017, arXiv:1705.08741, section 4. The batch size at which
    the rule changes depends on the data; 256 is a cautious choice.
    adamw, square root: Malladi et al. 2022, arXiv:2205.10330. The same rule is used for muon, whose steps do
    not grow with the gradient either.
    Averages whose span grows with the training: Karras et al. 2024, arXiv:2312.02696, section 3.1.
"""

import math
from dataclasses import dataclass
from typing import Literal

_LINEAR_UP_TO = 256
"""Batch size up to which sgd's rate grows in proportion to the batch size; above, it grows with its square
root."""
_WARM_UP_STEPS = 300
_MOST_WARM_UP = 0.2
"""Largest share of all steps that the warm-up takes."""
_WINDOW_SHARE = 1 / 15
"""Number of steps that an average spans, as a share of all steps."""
_LONGEST_WINDOW = 1000
_SHORTEST_WINDOW = 5


@dataclass(frozen=True)
class _Anchor:
    """A recipe that is known to work."""

    batch_size: int
    lr: float
    momentum: float
    weight_decay: float


_ANCHORS = {
    "sgd": _Anchor(batch_size=256, lr=0.2, momentum=0.9, weight_decay=5e-4),
    "muon": _Anchor(batch_size=256, lr=0.06, momentum=0.6, weight_decay=5e-4),
    "adamw": _Anchor(batch_size=32, lr=1e-3, momentum=0.9, weight_decay=0.02),
}
_REST = _Anchor(batch_size=256, lr=0.1, momentum=0.9, weight_decay=5e-4)
"""The recipe for the parameters that muon trains with sgd."""


def suggest_rates(
    optimizer: Literal["sgd", "muon", "adamw"], batch_size: int, num_steps: int
) -> dict[str, float | str]:
    """Suggest values of `FitParams` for an optimiser, a batch size and a number of steps.

    Rates and shares are rounded to two digits, as a person would write them.

    Args:
        optimizer: Name of the optimiser.
        batch_size: Examples per step, over all ranks.
        num_steps: Number of steps of the whole training.

    Returns:
        `optimizer`, `lr`, `momentum`, `weight_decay`, `warmup_share`, `average_decay`, and `rest_lr` for
        muon. The warm-up takes 300 steps, at most a fifth of all. An average spans a fifteenth of all steps,
        at most 1,000; if that is less than five steps, averaging is off (0).

    Raises:
        ValueError: If the optimiser is unknown, or a number is below 1.

    Example:
        >>> suggest_rates("muon", 256, 1500)["lr"], suggest_rates("muon", 256, 1500)["average_decay"]
        (0.06, 0.99)
    """
    if optimizer not in _ANCHORS:
        raise ValueError(
            f"optimizer = {optimizer!r}: no rates are known for it; use one of {', '.join(_ANCHORS)}"
        )
    if batch_size < 1 or num_steps < 1:
        raise ValueError(f"batch_size = {batch_size} and num_steps = {num_steps}: both must be at least 1")
    anchor = _ANCHORS[optimizer]
    scale = _linear if optimizer == "sgd" else _square_root
    rates: dict[str, float | str] = {
        "optimizer": optimizer,
        "lr": _rounded(scale(anchor, batch_size)),
        "momentum": anchor.momentum,
        "weight_decay": anchor.weight_decay,
        "warmup_share": _rounded(min(_MOST_WARM_UP, _WARM_UP_STEPS / num_steps)),
        "average_decay": _average_decay(num_steps),
    }
    if optimizer == "muon":
        # The square root, as for the filters' rate: both belong to one recipe and keep their ratio.
        rates["rest_lr"] = _rounded(_square_root(_REST, batch_size))
    return rates


def _linear(anchor: _Anchor, batch_size: int) -> float:
    """Scale the rate in proportion to the batch size, and above `_LINEAR_UP_TO` with its square root."""
    straight = min(batch_size, _LINEAR_UP_TO)
    return anchor.lr * straight / anchor.batch_size * math.sqrt(batch_size / straight)


def _square_root(anchor: _Anchor, batch_size: int) -> float:
    return anchor.lr * math.sqrt(batch_size / anchor.batch_size)


def _average_decay(num_steps: int) -> float:
    """Return the decay with which an average spans 1 / (1 - decay) steps, the chosen share of all steps."""
    window = min(_WINDOW_SHARE * num_steps, _LONGEST_WINDOW)
    return round(1 - 1 / window, 4) if window >= _SHORTEST_WINDOW else 0.0


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
