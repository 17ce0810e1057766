"""Balancing of classes of different size: how often an epoch draws each example, and each example's weight.

Strata are counted; if a problem has classes, the strata have their names. An example with several strata
counts as its rarest one: the stratum with the largest factor decides. So undersampling never removes examples
of a rare class because they also show a frequent class. If classes occur together, their counts may not
become fully equal.

| method | repeats | weights | emphasis |
|---|---|---|---|
| none | 1 | 1 | |
| oversample | up to the largest stratum | 1 | |
| undersample | down to the smallest stratum | 1 | |
| repeat-factor | root of (frequency / share of the images) | 1 | |
| weights | 1 | 1 / effective number, mean 1 | |
| costs | 1 | 1 | cost matrix |
| logit-adjustment | 1 | 1 | strength x log prior |

Sources: repeat factor, Gupta et al. 2019, arXiv:1908.03195, section 4.2; effective number, Cui et al. 2019,
arXiv:1901.05555, equation 2; logit adjustment, Menon et al. 2021, arXiv:2007.07314, equation 10.
"""

import difflib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from temper.data.augmentation.params import BalanceParams

Strata = Sequence[frozenset[str]]


def count(strata: Strata) -> dict[str, int]:
    """Count the examples of each stratum, by name."""
    return dict(sorted(Counter(name for each in strata for name in each).items()))


def draw_repeats(strata: Strata, params: BalanceParams, *, seed: int) -> Int64[np.ndarray, "examples"]:
    """Return how often an epoch draws each example.

    The wanted count of a stratum is between its own count and the largest (oversample) or smallest
    (undersample) count, by `strength`. Every example of a stratum gets the same whole number of repeats; the
    seed decides which examples get one more.
    """
    counts = count(strata)
    ends = {"oversample": max, "undersample": min}
    if params.method == "repeat-factor":
        rare = params.frequency * len(strata)
        factors = {name: max(1.0, (rare / number) ** 0.5) for name, number in counts.items()}
    elif params.method in ends:
        end = ends[params.method](counts.values())
        factors = {name: 1 + params.strength * (end / number - 1) for name, number in counts.items()}
    else:
        return np.ones(len(strata), np.int64)
    repeats = np.zeros(len(strata), np.int64)
    rng = np.random.default_rng([seed, 0xBA1A])
    for name, members in sorted(_by_rarest(strata, factors).items()):
        wanted = int(len(members) * factors[name] + 0.5)
        repeats[members] = wanted // len(members)
        repeats[rng.permutation(members)[: wanted % len(members)]] += 1
    return repeats


def weigh(strata: Strata, params: BalanceParams) -> Float32[np.ndarray, "examples"]:
    """Return the weight of each example, mean 1."""
    if params.method != "weights":
        return np.ones(len(strata), np.float32)
    # (1 - beta) / (1 - beta^n) is 1 / effective number. For beta = 0, every stratum has the same weight.
    by_name = {name: (1 - params.beta) / (1 - params.beta**number) for name, number in count(strata).items()}
    weights = np.array([max(by_name[name] for name in each) for each in strata])
    return (weights / weights.mean()).astype(np.float32)


def emphasize(strata: Strata, params: BalanceParams, classes: Sequence[str]) -> dict[str, Any]:
    """Return `offsets` and `costs` for the loss, in the order of the classes; empty if the method has none.

    Raises:
        ValueError: If the costs are missing, are negative or name an unknown class, or a class has no
            example.
    """
    emphasis: dict[str, Any] = {"offsets": [], "costs": []}
    if params.method == "logit-adjustment":
        counts = count(strata)
        for name in classes:
            if not counts.get(name):
                raise ValueError(
                    f"class {name!r} has no training example, so logit-adjustment has no prior for it; "
                    "add images of it or set augment.balance.method to weights"
                )
        total = sum(counts[name] for name in classes)
        emphasis["offsets"] = [float(params.strength * np.log(counts[name] / total)) for name in classes]
    if params.method == "costs":
        emphasis["costs"] = _cost_matrix(params.costs, classes)
    return emphasis


def _by_rarest(strata: Strata, factors: Mapping[str, float]) -> dict[str, list[int]]:
    members: dict[str, list[int]] = defaultdict(list)
    for i, each in enumerate(strata):
        members[max(sorted(each), key=lambda name: factors[name])].append(i)
    return members


def _cost_matrix(costs: Mapping[str, Mapping[str, float]], classes: Sequence[str]) -> list[list[float]]:
    if not any(costs.values()):
        raise ValueError(
            "augment.balance.method is costs, but augment.balance.costs is empty; "
            "write {true class: {predicted class: cost}}"
        )
    for true, row in costs.items():
        for name in (true, *row):
            if name not in classes:
                near = difflib.get_close_matches(name, classes, n=1, cutoff=0.4)
                hint = f"the nearest is {near[0]!r}" if near else f"the classes are {', '.join(classes)}"
                raise ValueError(f"augment.balance.costs names {name!r}, which is not a class; {hint}")
        for name, cost in row.items():
            if cost < 0 or (name == true and cost):
                rule = "a correct answer must cost 0" if name == true else "a cost must be 0 or more"
                raise ValueError(f"augment.balance.costs.{true}.{name} = {cost:g}: {rule}")
    return [[float(costs.get(true, {}).get(predicted, 0.0)) for predicted in classes] for true in classes]
