"""May this model be released, and if not, why: pure comparison of what was measured.

Plain form: one score against the champion's, with an allowed drop. Left out on purpose, because other issues bring them:
non-inferiority bounds, stress families, latency and size.
"""

import math
from dataclasses import dataclass

_ROUNDING = 1e-9
"""A drop equal to the allowed one passes, whatever binary fractions make of 0.90 - 0.89."""


@dataclass(frozen=True)
class Score:
    """The headline of one model, as its report gives it."""

    name: str
    """Which score, e.g. `accuracy`."""
    value: float | None
    """None where nobody measured it."""
    greater_is_better: bool = True
    data: str | None = None
    """Digest of the data it was measured on; None where unknown."""


@dataclass(frozen=True)
class Verdict:
    """The gate's answer."""

    opens: bool
    reason: str
    """One sentence, for people."""


def judge(challenger: Score, champion: Score | None, *, max_drop: float) -> Verdict:
    """Compare a model with the one that is released now.

    Args:
        challenger: The model that asks to be released.
        champion: The model that is released, or None if there is none.
        max_drop: How much worse than the champion it may be, in the score's own unit.

    Returns:
        Opens if there is no champion, or if the challenger is not worse by more than `max_drop`. A missing or
        unlike score never opens the gate: nothing was compared.

    Example:
        >>> judge(Score("accuracy", 0.91), Score("accuracy", 0.92), max_drop=0.02).opens
        True
    """
    if challenger.value is None or not math.isfinite(challenger.value):
        return Verdict(False, f"the challenger's {challenger.name} was not measured")
    if champion is None:
        return Verdict(True, f"there was no champion; {challenger.name} is {challenger.value:.4f}")
    if champion.name != challenger.name:
        return Verdict(
            False, f"the champion was judged by {champion.name}, the challenger by {challenger.name}: not comparable"
        )
    if champion.value is None or not math.isfinite(champion.value):
        return Verdict(False, f"the champion's {champion.name} is not on record")
    drop = champion.value - challenger.value if challenger.greater_is_better else challenger.value - champion.value
    compared = f"{challenger.name} {challenger.value:.4f} against the champion's {champion.value:.4f}"
    if champion.data != challenger.data:
        compared += " (measured on other data)"
    if drop <= max_drop + _ROUNDING:
        return Verdict(True, f"{compared}: not worse by more than {max_drop:g}")
    return Verdict(False, f"{compared}: worse by {drop:.4f}, allowed are {max_drop:g}")
