"""Names of classes: read from the data, or held against those the project fixed."""

import difflib
from collections.abc import Iterable, Sequence

from temper.problem import Row


def bind_classes(fixed: tuple[str, ...], rows: Sequence[Row], *, least: int = 2) -> tuple[str, ...]:
    """The class names in order: the fixed ones if there are any, else those of the rows, sorted.

    Args:
        fixed: Names that the project fixed; empty to read them from the rows.
        rows: All examples.
        least: How many classes the problem needs.

    Raises:
        ValueError: If a row's label is not among the fixed ones, or fewer than `least` classes are left.
    """
    found = {label for row in rows for label in row.labels}
    if fixed:
        for label in sorted(found - set(fixed)):
            near = difflib.get_close_matches(label, fixed, n=1)
            hint = f" (nearest: {near[0]!r})" if near else ""
            example = next(row.path for row in rows if label in row.labels)
            raise ValueError(
                f"label {label!r} of {example} is not among problem.classes{hint}; add it there or correct the label"
            )
    classes = fixed or tuple(sorted(found))
    if len(classes) < least:
        names = ", ".join(classes) or "none"
        raise ValueError(
            f"the data name {len(classes)} class ({names}); this problem needs at least {least}: add images of another"
        )
    return classes


def without_labels(rows: Iterable[Row]) -> str:
    """The first rows without a label, for an error message."""
    paths = [row.path for row in rows if not row.labels]
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
