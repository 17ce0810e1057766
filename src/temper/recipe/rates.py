"""Learning rates by optimiser and batch size. A stand-in: to be replaced by `suggest_rates` of `temper.engine.rates`, same signature."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Rates:
    """What a fit is given."""

    lr: float
    warmup_share: float
    weight_decay: float


_AT_BASE = {"sgd": (0.1, 256, 5e-4), "muon": (0.06, 256, 5e-4), "adamw": (1e-3, 32, 0.02)}
"""Learning rate, the batch size it is for, and weight decay: the default project's for muon, docs/transfer.md's for adamw."""
_MOST_WARM_UP, _WARM_UP_STEPS = 0.2, 500


def suggest_rates(optimizer: str, batch_size: int, num_steps: int) -> Rates:
    """Peak rate, warm-up and decay; the rate grows with the root of the batch.

    Example:
        >>> suggest_rates("muon", 64, 1000)
        Rates(lr=0.03, warmup_share=0.2, weight_decay=0.0005)
    """
    base, at, decay = _AT_BASE[optimizer]
    lr = float(f"{base * (batch_size / at) ** 0.5:.2g}")
    return Rates(lr, round(min(_MOST_WARM_UP, _WARM_UP_STEPS / max(1, num_steps)), 2), decay)
