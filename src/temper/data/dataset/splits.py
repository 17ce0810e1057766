"""Which examples train, which serve choices (validation), which are kept for the last measurement (test).

Splits that the source fixes stay. Where it fixes no test split, a share of everything that is not
validation becomes one; where it fixes no validation split, a share of what then trains becomes one. The
choice is seeded, keeps groups whole, and is stratified greedily, rarest stratum first (after Sechidis,
Tsoumakas and Vlahavas 2011, "On the stratification of multi-label data", section 3): with one stratum per
example and no groups, each stratum's share is exact to rounding.

Once test, always test: images whose split is on record (`splits.parquet` in the project, kept when new
images arrive) stay where they were, so that no model is measured on what another one was trained on. Only
the others are drawn, so many that the shares come out.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from temper.problem import Row

SPLITS = ("train", "validation", "test")
Strata = Sequence[frozenset[str]]


def assign_splits(
    rows: Sequence[Row],
    strata: Strata,
    *,
    validation_share: float,
    test_share: float,
    seed: int,
    kept: Sequence[str | None] | None = None,
) -> list[str]:
    """The split of each row, in order.

    Args:
        rows: The examples.
        strata: Of each.
        validation_share: Of what trains.
        test_share: Of all.
        seed: Decides who is drawn.
        kept: The split that each example was in before, None for new ones; where the source fixes a split,
            that counts.

    Raises:
        ValueError: If a group stands in two official splits, or a stratum is missing in a split.
    """
    _check_groups(rows)
    rng = np.random.default_rng([seed, 0x5B17])
    official: list[str | None] = []
    groups: list[str | None] = []
    for row in rows:
        official.append(sys.intern(row.split) if row.split else None)
        groups.append(row.group)
    before = _with_groups(kept or [None] * len(rows), groups)
    splits = [split or "train" for split in official]
    for name, share in (("test", test_share), ("validation", validation_share)):
        if name not in official:
            pool = [i for i, split in enumerate(splits) if split == "train"]
            # Where validation is still to be cut from the rest, one example must be left for each of the two.
            leave = 2 if name == "test" and "validation" not in official else 1
            placed = [None if before[i] is None else before[i] == name for i in pool]
            pooled = [groups[i] for i in pool], [strata[i] for i in pool]
            for i in hold_out(*pooled, share=share, leave=leave, rng=rng, placed=placed):
                splits[pool[i]] = name
    return splits


def _with_groups(kept: Sequence[str | None], groups: Sequence[str | None]) -> list[str | None]:
    """New examples of a group go where the group is."""
    where = {
        group: split
        for group, split in zip(groups, kept, strict=True)
        if group is not None and split is not None
    }
    return [
        split or (where.get(group) if group is not None else None)
        for split, group in zip(kept, groups, strict=True)
    ]


def hold_out(
    groups: Sequence[str | None],
    strata: Strata,
    *,
    share: float,
    leave: int,
    rng: np.random.Generator,
    placed: Sequence[bool | None],
) -> list[int]:
    """Choose about `share` of each stratum, whole groups only.

    Args:
        groups: Of each example to choose from, None where it stands alone.
        strata: Of each example.
        share: Wanted share of each stratum, at least one example.
        leave: Examples of each stratum that stay in any case.
        rng: Decides among equals.
        placed: True for those that are held out in any case, False for those that are not, None where it is
            to be chosen.

    Returns:
        Numbers of the chosen rows, rising.
    """
    units: dict[str, int] = {}
    unit_of: list[int] = []
    counts: list[Counter[str]] = []
    alone: dict[frozenset[str], Counter[str]] = {}
    for i, group in enumerate(groups):
        unit = len(counts) if group is None else units.setdefault(group, len(counts))
        unit_of.append(unit)
        if group is None:
            # One count for all that stand alone and are alike: of a million examples they are the most.
            counts.append(alone.setdefault(strata[i], Counter(strata[i])))
        else:
            if unit == len(counts):
                counts.append(Counter())
            counts[unit].update(strata[i])
    total: Counter[str] = sum_counts(counts)
    held: Counter[str] = Counter()
    of_stratum: dict[str, list[int]] = defaultdict(list)
    for unit in rng.permutation(len(counts)).tolist():
        for name in counts[unit]:
            of_stratum[name].append(unit)
    taken = {unit_of[i] for i, held_before in enumerate(placed) if held_before}
    passed = {unit_of[i] for i, held_before in enumerate(placed) if held_before is False} - taken
    for unit in taken:
        held.update(counts[unit])
    for name in sorted(total, key=lambda name: (total[name], name)):
        wanted = max(1, int(share * total[name] + 0.5))
        # Large groups first, small ones fill up; sorting is stable, so equal ones stay shuffled.
        for unit in sorted(of_stratum[name], key=lambda unit: -counts[unit][name]):
            if unit in taken or unit in passed:
                continue
            size = counts[unit][name]
            fits = held[name] + size <= wanted or (
                held[name] == 0 and size == min(counts[u][name] for u in of_stratum[name])
            )
            leaves = all(held[other] + count <= total[other] - leave for other, count in counts[unit].items())
            if fits and leaves:
                taken.add(unit)
                held.update(counts[unit])
            else:
                passed.add(unit)
    return [i for i, unit in enumerate(unit_of) if unit in taken]


def sum_counts(counts: Sequence[Mapping[str, int]]) -> Counter[str]:
    """Counts of all, added up."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def count_strata(splits: Sequence[str], strata: Strata) -> dict[str, dict[str, int]]:
    """Examples by split and stratum, in the order of `SPLITS` and of names; absent ones count 0."""
    names = sorted({name for each in strata for name in each})
    counts = {split: dict.fromkeys(names, 0) for split in SPLITS}
    for split, each in zip(splits, strata, strict=True):
        for name in each:
            counts[split][name] += 1
    return counts


def check_strata(counts: Mapping[str, Mapping[str, int]], *, official: frozenset[str]) -> None:
    """Every stratum must occur in every split.

    Args:
        counts: From `count_strata`.
        official: The splits that the source fixed.

    Raises:
        ValueError: Names the class, the split, how many there are elsewhere, and the way out.
    """
    for split, by_name in counts.items():
        for name, count in by_name.items():
            if count:
                continue
            elsewhere = ", ".join(f"{counts[other][name]} in {other}" for other in counts if other != split)
            total = sum(counts[other][name] for other in counts)
            if split in official:
                way = f"the source fixes this split, so add images of {name!r} to it"
            elif total < len(counts):
                way = f"each split needs one, so at least {len(counts)} are needed; add images or remove the class"
            else:
                way = "its images lie in too few groups, or come only with other classes; add images of it in further groups"
            raise ValueError(f"class {name!r} has no example in the {split} split ({elsewhere}); {way}")


def _check_groups(rows: Sequence[Row]) -> None:
    seen: dict[str, Row] = {}
    for row in rows:
        if row.group is None:
            continue
        first = seen.setdefault(row.group, row)
        if (first.split or "train") != (row.split or "train"):
            raise ValueError(
                f"group {row.group!r} stands in two official splits: {first.id} in {first.split or 'train'}, {row.id} in "
                f"{row.split or 'train'}; a group may not cross splits, so move one of them"
            )
