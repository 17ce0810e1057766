"""Search for an int8 network as good as its float parent: first ranges, then equalisation, then float layers.

Cheap remedies come first, and the first setting that holds is taken. If no setting with all layers in int8
holds, each layer alone is left in float to measure how much of the drift it causes. Then the worst layers are
left in float together, as few as possible. The number of settings is limited, not the time: with a time limit
the result would differ between machines.

Source:
    Layers in the order of their sensitivity: Wu et al. 2020, arXiv:2004.09602, section 5.2
    ("partial quantization").
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from temper.compress.quantizer import Setting
from temper.compress.ranges import METHODS, Method


@dataclass(frozen=True)
class Tried:
    """A setting and its result."""

    setting: Setting
    holds: bool
    """Whether the int8 network was shown to be no worse than its float parent."""
    drift: float
    """Distance of its answers from the parent's, 0 or more; it ranks the settings that do not hold."""
    found: str
    """The measurements, as text."""


@dataclass(frozen=True)
class Search:
    """The result of a search."""

    chosen: Tried | None
    """The setting that was chosen; None if no setting holds."""
    tried: tuple[Tried, ...]
    """All settings that were tried, in order; the chosen one is among them."""


def search(
    attempt: Callable[[Setting], Tried],
    drift: Callable[[Setting], float],
    *,
    num_layers: int,
    ranges: Sequence[Method] = METHODS,
    max_trials: int,
) -> Search:
    """Search for a setting that holds.

    Args:
        attempt: Makes and measures a setting.
        drift: Measures how far a setting's answers are from the parent's; faster, because it uses fewer
            images.
        num_layers: Number of layers that can stay in float.
        ranges: Methods for choosing ranges, in the order in which they are tried.
        max_trials: Largest number of settings that may be made in total, at least 1.
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
    """Return groups of neighbouring layers, sorted by the drift that they cause, largest first.

    The groups are single layers if the budget allows it.
    """
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
    """Return the setting that holds with the fewest of the worst groups in float; None if none holds.

    The number of groups is doubled until a setting holds, then bisected. All groups together are not tried,
    because that would be the float network.
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
