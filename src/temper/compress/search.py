"""The search for an int8 network that answers as well as its float parent: ranges first, then equalisation, then layers in float.

Cheap remedies come first, and the first setting that holds is taken. Where none of the whole networks holds, every layer is left in
float by itself to see how much of the drift it makes; then the worst ones are left in float together, as few as will
do. How many settings are tried is bounded, not how long it takes: a clock would make the result differ from machine to machine.

Source:
    Layers in the order of their sensitivity: Wu et al. 2020, arXiv:2004.09602, section 5.2 ("partial quantization").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from temper.compress.quantizer import Setting
from temper.compress.ranges import METHODS, Method


@dataclass(frozen=True)
class Tried:
    """A setting and what came of it."""

    setting: Setting
    holds: bool
    """Whether the int8 network was shown to be no worse than its float parent."""
    drift: float
    """How far its answers are from the parent's, 0 or more: orders settings that do not hold."""
    found: str
    """What was measured, in words."""


@dataclass(frozen=True)
class Search:
    """What a search came to."""

    chosen: Tried | None
    """None if nothing held."""
    tried: tuple[Tried, ...]
    """In order, the chosen one last where there is one."""


def search(
    attempt: Callable[[Setting], Tried],
    drift: Callable[[Setting], float],
    *,
    num_layers: int,
    ranges: Sequence[Method] = METHODS,
    max_trials: int,
) -> Search:
    """Look for a setting that holds.

    Args:
        attempt: Makes and measures a setting.
        drift: How far a setting's answers are from the parent's; a quicker measurement, on fewer images.
        num_layers: How many layers can stay in float.
        ranges: Ways of choosing ranges that may be tried, in order.
        max_trials: How many settings may be made in all, at least 1.
    """
    tried: list[Tried] = []

    def holds(setting: Setting) -> bool:
        tried.append(attempt(setting))
        return tried[-1].holds

    wholes = [Setting(ranges=method, equalized=equalized) for equalized in (False, True) for method in ranges]
    for setting in wholes[:max_trials]:
        if holds(setting):
            return Search(tried[-1], tuple(tried))
    best = min(tried, key=lambda each: each.drift).setting
    order = _rank(drift, best, num_layers, max_trials - len(tried))
    left = max_trials - len(tried) - len(order)
    chosen = _fewest(holds, best, order, left)
    found = next((each for each in tried if chosen is not None and each.setting == chosen), None)
    return Search(found, tuple(tried))


def _rank(
    drift: Callable[[Setting], float], best: Setting, num_layers: int, budget: int
) -> list[frozenset[int]]:
    """Groups of neighbouring layers, the one first that makes most of the drift; single layers where the budget allows."""
    num_groups = min(num_layers, max(budget * 2 // 3, 0))
    groups = [
        frozenset(range(num_layers * number // num_groups, num_layers * (number + 1) // num_groups))
        for number in range(num_groups)
    ]
    drifts = {group: drift(Setting(best.ranges, best.equalized, group)) for group in groups}
    return sorted(groups, key=lambda group: drifts[group])


def _fewest(
    holds: Callable[[Setting], bool], best: Setting, order: Sequence[frozenset[int]], budget: int
) -> Setting | None:
    """The setting with the fewest of the worst groups in float that holds: doubled until it does, then halved between.

    All groups at once are not tried: that would be the float network.
    """

    def setting(count: int) -> Setting:
        return Setting(best.ranges, best.equalized, frozenset().union(*order[:count]))

    low, high, count = 0, None, 1
    while budget > 0 and count < len(order):
        budget -= 1
        if holds(setting(count)):
            high = count
            break
        low, count = count, min(2 * count, len(order) - 1) if count < len(order) - 1 else len(order)
    while high is not None and high - low > 1 and budget > 0:
        budget -= 1
        middle = (low + high) // 2
        if holds(setting(middle)):
            high = middle
        else:
            low = middle
    return None if high is None else setting(high)
