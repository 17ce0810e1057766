"""Rates to begin with: from the optimiser, the batch size and the number of steps to fields of `FitParams`.

For whoever writes a params.yaml; a training never asks. Imports no torch.

The anchors are recipes that work here (`docs/log.md`): muon 0.06 with batches of 256 and averages of 100 of 1,500 steps (the default project),
adamw 1e-3 with batches of 32 and decay 0.02 (fine-tuning of timm's networks), and sgd 0.2 with batches of 256. The last is below what two
projects bear (0.3 with 256, 0.1 with 64) and below what made a third jump from epoch to epoch (0.05 to 0.1 with batches of 32).

Sources:
    sgd, rate in proportion to the batch: Goyal et al. 2017, arXiv:1706.02677, section 2.1; the square root for large ones: Hoffer, Hubara
    and Soudry 2017, arXiv:1705.08741, section 4. Where one passes into the other depends on the data; 256 is careful.
    adamw, the square root: Malladi et al. 2022, arXiv:2205.10330. So is muon's, whose steps do not grow with the gradient either.
    Averages whose span grows with the training: Karras et al. 2024, arXiv:2312.02696, section 3.1.
"""

import math
from dataclasses import dataclass
from typing import Literal

_LINEAR_UP_TO = 256
"""Batch size up to which sgd's rate grows with the batch, beyond it with its square root."""
_WARM_UP_STEPS = 300
_MOST_WARM_UP = 0.2
"""Share of all steps."""
_WINDOW_SHARE = 1 / 15
"""Steps that an average spans, as a share of all."""
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
"""What muon leaves to sgd."""


def suggest_rates(
    optimizer: Literal["sgd", "muon", "adamw"], batch_size: int, num_steps: int
) -> dict[str, float | str]:
    """Fields of `FitParams` that suit an optimiser, a batch size and a number of steps; numbers of two digits, as a person writes them.

    Args:
        optimizer: Its name.
        batch_size: Examples of a step, over all ranks.
        num_steps: Of the whole training.

    Returns:
        `optimizer`, `lr`, `momentum`, `weight_decay`, `warmup_share`, `average_decay`, and `rest_lr` for muon. The
        warm-up takes 300 steps, or a fifth of all; an average spans a fifteenth of all, 1,000 steps at most, and is left out (0) where
        that is less than five.

    Raises:
        ValueError: If the optimiser is unknown, or a number is below 1.

    Example:
        >>> suggest_rates("muon", 256, 1500)["lr"], suggest_rates("muon", 256, 1500)["average_decay"]
        (0.06, 0.99)
    """
    if optimizer not in _ANCHORS:
        raise ValueError(
            f"no rates are known for the optimiser {optimizer!r}; take one of {', '.join(_ANCHORS)}"
        )
    if batch_size < 1 or num_steps < 1:
        raise ValueError(f"batches of {batch_size} in {num_steps} steps: both must be 1 or more")
    anchor = _ANCHORS[optimizer]
    scale = _linear if optimizer == "sgd" else _square_root
    found: dict[str, float | str] = {
        "optimizer": optimizer,
        "lr": _rounded(scale(anchor, batch_size)),
        "momentum": anchor.momentum,
        "weight_decay": anchor.weight_decay,
        "warmup_share": _rounded(min(_MOST_WARM_UP, _WARM_UP_STEPS / num_steps)),
        "average_decay": _average_decay(num_steps),
    }
    if optimizer == "muon":
        # By the root, as its filters' rate: both are of one recipe, and keep their ratio.
        found["rest_lr"] = _rounded(_square_root(_REST, batch_size))
    return found


def _linear(anchor: _Anchor, batch_size: int) -> float:
    """In proportion to the batch, and beyond `_LINEAR_UP_TO` to its square root."""
    straight = min(batch_size, _LINEAR_UP_TO)
    return anchor.lr * straight / anchor.batch_size * math.sqrt(batch_size / straight)


def _square_root(anchor: _Anchor, batch_size: int) -> float:
    return anchor.lr * math.sqrt(batch_size / anchor.batch_size)


def _average_decay(num_steps: int) -> float:
    """So that 1 / (1 - decay) steps, which an average spans, are a share of all."""
    window = min(_WINDOW_SHARE * num_steps, _LONGEST_WINDOW)
    return round(1 - 1 / window, 4) if window >= _SHORTEST_WINDOW else 0.0


def _rounded(value: float) -> float:
    return float(f"{value:.2g}")
