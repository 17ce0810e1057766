"""Names of classes: read from the data, or compared with those that the project fixes."""

import difflib
from collections.abc import Iterable, Sequence

from temper.problem import Row


def bind_classes(fixed: tuple[str, ...], rows: Sequence[Row], *, least: int = 2) -> tuple[str, ...]:
    """Return the class names in order: the fixed ones if there are any, otherwise those of the rows, sorted.

    Args:
        fixed: Names that the project fixes; empty to read them from the rows.
        rows: All examples.
        least: Smallest number of classes that the problem needs.

    Raises:
        ValueError: If a label of a row is not among the fixed names, or there are fewer than `least` classes.
    """
    found = {label for row in rows for label in row.labels}
    if fixed:
        for label in sorted(found - set(fixed)):
            near = difflib.get_close_matches(label, fixed, n=1)
            hint = f" (nearest: {near[0]!r})" if near else ""
            example = next(row.path for row in rows if label in row.labels)
            raise ValueError(
                f"label {label!r} of {example} is not among problem.classes{hint}; "
                "add it there or correct the label"
            )
    classes = fixed or tuple(sorted(found))
    if len(classes) < least:
        names = ", ".join(classes) or "none"
        raise ValueError(
            f"the number of classes is {len(classes)} ({names}), but this problem needs at least {least}; "
            "add images of another class"
        )
    return classes


def without_labels(rows: Iterable[Row]) -> str:
    """Return the first rows without a label as text for an error message; empty if all rows have labels."""
    paths = [row.path for row in rows if not row.labels]
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
