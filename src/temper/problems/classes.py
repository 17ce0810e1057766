"""Names of classes: read from the data, or compared with those that the project fixes."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence

from temper.problem import Row

_DECIMAL = re.compile(r"[+-]?\d+\.0*")
"""A whole number that is written as a decimal one, as pandas does where a column has gaps."""


def bind_classes(fixed: tuple[str, ...], rows: Sequence[Row], *, least: int = 2) -> tuple[str, ...]:
    """Return the class names in order: the fixed ones if there are any, otherwise those of the rows, sorted.

    Args:
        fixed: Names that the project fixes; empty to read them from the rows.
        rows: All examples.
        least: Smallest number of classes that the problem needs.

    Raises:
        ValueError: If a label of a row is not among the fixed names, two labels differ only in spelling, or
            there are fewer than `least` classes.
    """
    found = {label for row in rows for label in row.labels}
    if fixed:
        for label in sorted(found - set(fixed) - merged_labels(fixed, found).keys()):
            near = difflib.get_close_matches(label, fixed, n=1)
            hint = f" (nearest: {near[0]!r})" if near else ""
            example = next(row.path for row in rows if label in row.labels)
            raise ValueError(
                f"label {label!r} of {example} is not among problem.classes{hint}; "
                "add it there or correct the label"
            )
    else:
        _refuse_look_alikes(found)
    classes = fixed or tuple(sorted(found))
    if len(classes) < least:
        names = ", ".join(classes) or "none"
        raise ValueError(
            f"the number of classes is {len(classes)} ({names}), but this problem needs at least {least}; "
            "add images of another class"
        )
    return classes


def merged_labels(classes: Sequence[str], labels: Iterable[str]) -> Mapping[str, str]:
    """Return the labels that are another spelling of exactly one class, with that class.

    Example:
        >>> merged_labels(["cat", "sea lion"], ["Cat", "sea  lion", "dog", "cat"])
        {'Cat': 'cat', 'sea  lion': 'sea lion'}
    """
    by_key: dict[str, list[str]] = {}
    for name in classes:
        by_key.setdefault(_plain(name), []).append(name)
    alike = {label: by_key.get(_plain(label), []) for label in labels if label not in classes}
    return {label: names[0] for label, names in alike.items() if len(names) == 1}


def _plain(name: str) -> str:
    """Return a name without what only differs in spelling: case, blanks, invisible letters, 1 and 1.0."""
    text = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    return text.rstrip("0").rstrip(".") if _DECIMAL.fullmatch(text) else text


def _refuse_look_alikes(labels: Iterable[str]) -> None:
    """Refuse labels that differ only in spelling.

    Raises:
        ValueError: Names all of them and the way out.
    """
    by_key: dict[str, list[str]] = {}
    for label in sorted(labels):
        by_key.setdefault(_plain(label), []).append(label)
    alike = [" and ".join(map(ascii, names)) for names in by_key.values() if len(names) > 1]
    if alike:
        raise ValueError(
            f"classes differ only in case, blanks, form of Unicode or decimals: {'; '.join(alike[:10])}; "
            "rename them, or list the right names in problem.classes, which merges the other spellings"
        )


def without_labels(rows: Iterable[Row]) -> str:
    """Return the first rows without a label as text for an error message; empty if all rows have labels."""
    paths = [row.path for row in rows if not row.labels]
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")
