"""The splits: examples for training, for choices (validation) and for the final evaluation (test).

Splits that the source fixes are kept. If it fixes no test split, a share of all examples outside its
validation split becomes the test split. If it fixes no validation split, a share of the remaining training
examples becomes the validation split. The choice depends on the seed, keeps groups together, and is
stratified by a greedy method, rarest stratum first (after Sechidis, Tsoumakas and Vlahavas 2011, "On the
stratification of multi-label data", section 3). With one stratum per example and no groups, the share of
each stratum is exact up to rounding.

A test image always stays a test image: images whose split is recorded (`splits.parquet` in the project,
written when new images arrive) stay in their split, so that no model is evaluated on training images of
another model. Only the other images are assigned, as many as are needed to reach the shares.
"""

import sys
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from temper.problem import Row

SPLITS = ("train", "validation", "test")
_LISTED = 40
"""Number of classes that an error lists."""
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
    """Return the split of each row, in order.

    Args:
        rows: The examples.
        strata: Strata of each example.
        validation_share: Share of the training examples that becomes the validation split.
        test_share: Share of all examples that becomes the test split.
        seed: Seed of the choice.
        kept: Previous split of each example, None for new examples. A split that the source fixes takes
            precedence.

    Raises:
        ValueError: If a group is in two official splits.
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
            # If validation is still to be taken from the rest, one example must be left for each of the two.
            leave = 2 if name == "test" and "validation" not in official else 1
            placed = [None if before[i] is None else before[i] == name for i in pool]
            pooled = [groups[i] for i in pool], [strata[i] for i in pool]
            for i in hold_out(*pooled, share=share, leave=leave, rng=rng, placed=placed):
                splits[pool[i]] = name
    return splits


def _with_groups(kept: Sequence[str | None], groups: Sequence[str | None]) -> list[str | None]:
    """Return the previous splits, with new examples of a known group in the split of the group."""
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
        groups: Group of each example, None for an example without a group.
        strata: Strata of each example.
        share: Wanted share of each stratum; at least one example is chosen.
        leave: Number of examples of each stratum that are never chosen.
        rng: Source of the random order among equals.
        placed: True for an example that must be chosen, False for one that must not, None for a free one.

    Returns:
        Numbers of the chosen examples, in increasing order.
    """
    units: dict[str, int] = {}
    unit_of: list[int] = []
    counts: list[Counter[str]] = []
    alone: dict[frozenset[str], Counter[str]] = {}
    for i, group in enumerate(groups):
        unit = len(counts) if group is None else units.setdefault(group, len(counts))
        unit_of.append(unit)
        if group is None:
            # Examples without a group and with the same strata share one counter: they are most of a million
            # examples.
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
        # Large groups come first and small ones fill up. Sorting is stable, so equal ones stay shuffled.
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
    """Return the sum of all counts."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return total


def count_strata(splits: Sequence[str], strata: Strata) -> dict[str, dict[str, int]]:
    """Count the examples by split and stratum, in the order of `SPLITS` and of names; missing ones are 0."""
    names = sorted({name for each in strata for name in each})
    counts = {split: dict.fromkeys(names, 0) for split in SPLITS}
    for split, each in zip(splits, strata, strict=True):
        for name in each:
            counts[split][name] += 1
    return counts


def check_strata(
    counts: Mapping[str, Mapping[str, int]],
    *,
    official: frozenset[str],
    alike: Sequence[str] = (),
    optional: frozenset[str] = frozenset(),
) -> None:
    """Check that every stratum occurs in every split.

    Args:
        counts: Counts from `count_strata`.
        official: Splits that the source fixes.
        alike: Pairs of names that may be spellings of the same stratum, for the message.
        optional: Strata that need not occur: examples without any class.

    Raises:
        ValueError: If not; the message names all such classes and splits, the counts in the other splits and
            the way out.
    """
    _refuse_measurements(counts)
    lacks: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for split, by_name in counts.items():
        for name in (name for name, count in by_name.items() if not count and name not in optional):
            elsewhere = {other: counts[other][name] for other in counts if other != split}
            drawn = split == "validation" and split not in official and "train" in official
            if drawn and not counts["train"][name]:
                continue  # about the training split, from which it is drawn, the same is said
            if split in official:
                way = "the source fixes this split, so add images of it there"
            elif not any(count for other, count in elsewhere.items() if other not in official):
                way = "all its images are in splits that the source fixes, so add images outside them"
            elif sum(elsewhere.values()) < len(counts):
                way = (
                    f"each split needs one, so at least {len(counts)} are needed; "
                    "add images or remove the class"
                )
            else:
                way = (
                    "its images are in too few groups, or always show other classes too; "
                    "add images of it in more groups, or set ingest.group: null if that column names none"
                )
            told = ", ".join(f"{count} in {other}" for other, count in elsewhere.items())
            lacks.setdefault((split, way), []).append((name, told))
    if lacks:
        parts = [f"{_describe_lack(split, names)}; {way}" for (split, way), names in lacks.items()]
        hint = f". These names may mean the same class: {'; '.join(alike[:_LISTED])}" if alike else ""
        raise ValueError("; ".join(parts) + hint)


def _refuse_measurements(counts: Mapping[str, Mapping[str, int]]) -> None:
    """Refuse labels most of which are so rare that they are no classes."""
    totals = sum_counts(list(counts.values()))
    rare = [name for name, total in totals.items() if total < len(counts)]
    if len(rare) > _LISTED and 2 * len(rare) > len(totals):
        raise ValueError(
            f"{len(rare)} of {len(totals)} classes have fewer than {len(counts)} examples, for example "
            f"{', '.join(map(repr, rare[:3]))}, and each split needs one: these labels look like "
            "measurements, names or free text, not like classes; choose another column or folder"
        )


def _describe_lack(split: str, lacking: Sequence[tuple[str, str]]) -> str:
    """Return that some classes have no example in a split. `lacking` has their names and counts elsewhere."""
    if len(lacking) == 1:
        [(name, told)] = lacking
        return f"class {name!r} has no example in the {split} split ({told})"
    listed = ", ".join(f"{name!r} ({told})" for name, told in lacking[:_LISTED])
    more = f" and {len(lacking) - _LISTED} more" if len(lacking) > _LISTED else ""
    return f"{len(lacking)} classes have no example in the {split} split: {listed}{more}"


def _check_groups(rows: Sequence[Row]) -> None:
    seen: dict[str, Row] = {}
    for row in rows:
        if row.group is None:
            continue
        first = seen.setdefault(row.group, row)
        if (first.split or "train") != (row.split or "train"):
            raise ValueError(
                f"group {row.group!r} is in two official splits: {first.id} in {first.split or 'train'}, "
                f"{row.id} in {row.split or 'train'}; a group must be in one split, so move one of them"
            )
