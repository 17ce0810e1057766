"""Fields of a fit by optimiser, batch size and steps. A stand-in: replace this file by `suggest_rates` of `temper.engine.rates`."""

import math

_ANCHORS = {"muon": (0.06, 256, 0.6, 5e-4), "adamw": (1e-3, 32, 0.9, 0.02)}
"""Rate, the batch size it is for, momentum and weight decay: the default project's for muon, docs/transfer.md's for adamw."""
_REST_LR = 0.1
_MOST_WARM_UP, _WARM_UP_STEPS = 0.2, 300
_WINDOW_SHARE, _LONGEST_WINDOW, _SHORTEST_WINDOW = 1 / 15, 1000, 5


def suggest_rates(optimizer: str, batch_size: int, num_steps: int) -> dict[str, float | str]:
    """Fields of `FitParams`; rates grow with the root of the batch.

    Example:
        >>> suggest_rates("adamw", 32, 3000)["lr"], suggest_rates("muon", 64, 1500)["average_decay"]
        (0.001, 0.99)
    """
    lr, at, momentum, decay = _ANCHORS[optimizer]
    window = min(_WINDOW_SHARE * num_steps, _LONGEST_WINDOW)
    found: dict[str, float | str] = {
        "optimizer": optimizer,
        "lr": _round(lr * math.sqrt(batch_size / at)),
        "momentum": momentum,
        "weight_decay": decay,
        "warmup_share": _round(min(_MOST_WARM_UP, _WARM_UP_STEPS / num_steps)),
        "average_decay": round(1 - 1 / window, 4) if window >= _SHORTEST_WINDOW else 0.0,
    }
    if optimizer == "muon":
        found["rest_lr"] = _round(_REST_LR * math.sqrt(batch_size / at))
    return found


def _round(value: float) -> float:
    return float(f"{value:.2g}")
