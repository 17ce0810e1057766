"""Checks that each class has examples: among those that can be used, and in each split."""

from collections import Counter
from collections.abc import Mapping, Sequence

from temper.data.dataset.remarks import explain_ignored
from temper.data.dataset.rows import Rows
from temper.data.dataset.splits import check_strata, count_strata
from temper.data.remark import Remark, remark_on
from temper.problem import Problem
from temper.problems.classes import find_misspelt


def check_classes(
    problem: Problem, strata: Sequence[frozenset[str]], dropped: Mapping[int, str], ignored_share: float
) -> None:
    """Check that every class has an example left.

    Raises:
        ValueError: Names all classes that have none.
    """
    left = {name for each in strata for name in each}
    if lacking := [name for name in problem.classes if name not in left]:
        names = ", ".join(map(repr, lacking))
        which = f"class {names} has" if len(lacking) == 1 else f"{len(lacking)} classes ({names}) have"
        raise ValueError(
            f"{which} no example among the {len(strata)} usable ones ({_count_reasons(dropped)}); add "
            "images, or remove the class" + (f". {explain_ignored(ignored_share)}" if ignored_share else "")
        )


def count_classes(
    rows: Rows, splits: Sequence[str], strata: Sequence[frozenset[str]], problem: Problem
) -> tuple[dict[str, dict[str, int]], list[Remark]]:
    """Count the examples by split and stratum, and check that every stratum occurs where it must.

    That is in every split or, for a problem of rare strata, nowhere: then those are told that are looked for,
    and are not known from training.
    """
    counts = count_strata(splits, strata)
    if empty := [name for name, by_name in counts.items() if not any(by_name.values())]:
        raise ValueError(
            f"the {empty[0]} split is empty: all {len(splits)} examples are in other splits"
            + (", since their groups are too large or too few" if any(row.group for row in rows) else "")
            + "; add examples, or change ingest.group, ingest.split, prepare.test_share or validation_share"
        )
    official = frozenset(row.split for row in rows if row.split)
    alike = find_misspelt(Counter(name for each in strata for name in each))
    named = frozenset().union(*strata)
    optional = named if problem.rare else named - {*problem.classes} if problem.classes else frozenset[str]()
    check_strata(counts, official=official, alike=alike, optional=optional)
    lost = [name for name in counts["test"] if counts["test"][name] and not counts["train"][name]]
    text = "items are in the test split but have no training image, so that they cannot be found"
    return counts, remark_on("noticed", text, lost if problem.rare else [])


def _count_reasons(dropped: Mapping[int, str]) -> str:
    """Return how many images were dropped, and why."""
    counts = Counter(dropped.values())
    listed = "; ".join(f"{count}: {reason}" for reason, count in counts.most_common(3))
    more = f"; and {len(counts) - 3} more reasons" if len(counts) > 3 else ""
    return f"{len(dropped)} were dropped{': ' if listed else ''}{listed}{more}"
