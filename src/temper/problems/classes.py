"""Names of classes: read from the data, or compared with those that the project fixes."""

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations

from temper.problem import Row

_DECIMAL = re.compile(r"[+-]?\d+\.0*")
"""A whole number that is written as a decimal one, as pandas does where a column has gaps."""


_COPY = r"([ _-]+(copy|old|new|backup)|\s*\(\d+\))+$"
"""What systems and people add to the name of a copy."""
_RARE, _LONG_NAME = 0.1, 5
"""Share of another class's examples, and letters, from which on a class may be a misspelling of it."""
_DOUBLED = re.compile(r"(\D)\1+")
_LOOK_ALIKES = str.maketrans(
    "\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458\u0455\u0501\u04bb"
    "\u051b\u051d\u03b1\u03bf\u03c1\u03bd",
    "aeopcyxijsdhqwaopv",
)
"""Small Cyrillic and Greek letters that look like Latin ones."""


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
    """Return a name without what only differs in spelling.

    That is case, blanks, invisible letters, letters of other alphabets that look alike, and 1, 1.0 and 01.
    """
    text = "".join(letter for letter in name if unicodedata.category(letter) != "Cf")
    text = " ".join(unicodedata.normalize("NFKC", text).casefold().split()).translate(_LOOK_ALIKES)
    text = text.rstrip("0").rstrip(".") if _DECIMAL.fullmatch(text) else text
    return text.lstrip("0") or "0" if text.isdecimal() else text


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
            "classes differ only in case, blanks, form of Unicode, letters that look alike, decimals or "
            f"leading zeros: {'; '.join(alike[:10])}; rename them, or list the right names in "
            "problem.classes, which merges the other spellings"
        )


def require_one_label(rows: Sequence[Row], kind: str, *, way: str) -> None:
    """Check that each row has exactly one label.

    Args:
        rows: All examples.
        kind: Kind of the problem, for messages.
        way: What to do if a row has several.

    Raises:
        ValueError: Names the first rows without a label, or the first one with several.
    """
    if missing := without_labels(rows):
        raise ValueError(f"no label for {missing}; {kind} needs exactly one label per image")
    for row in rows:
        if len(row.labels) > 1:
            several = ", ".join(row.labels)
            raise ValueError(f"{row.path} has {len(row.labels)} labels ({several}); {way}")


def without_labels(rows: Iterable[Row]) -> str:
    """Return the first rows without a label as text for an error message; empty if all rows have labels."""
    paths = [row.path for row in rows if not row.labels]
    return ", ".join(paths[:3]) + (f" and {len(paths) - 3} more" if len(paths) > 3 else "")


def find_misspelt(counts: Mapping[str, int]) -> list[str]:
    """Return pairs of classes of which one may be a misspelling of the other, as texts with their counts.

    Either they differ only in blanks, hyphens and underscores, or in a letter or two while one is much rarer.

    Args:
        counts: Number of examples of each class.

    Example:
        >>> find_misspelt({"bicycle": 400, "bicyle": 3, "sea lion": 9, "sea_lion": 8, "car": 5, "cat": 90})
        ['bicyle (3) and bicycle (400)', 'sea_lion (8) and sea lion (9)']
        >>> find_misspelt({"dog": 90, "dogg": 3, "dig": 3, "x1": 90, "x11": 2})
        ['dogg (3) and dog (90)']
    """
    joined = {name: re.sub(r"[\W_]+", "", re.sub(_COPY, "", _plain(name))) for name in counts}
    alike: dict[str, list[str]] = {}
    for name, text in joined.items():
        # Names that differ by a letter have a form without one letter in common.
        for key in {text, *(text[:i] + text[i + 1 :] for i in range(len(text)))}:
            alike.setdefault(key, []).append(name)
    pairs = set()
    for names in alike.values():
        for one, other in combinations(sorted(names, key=lambda name: (counts[name], name)), 2):
            short, long = sorted((joined[one], joined[other]), key=len)
            equal = long in (short, f"{short}s")
            doubled = _DOUBLED.sub(r"\1", short) == _DOUBLED.sub(r"\1", long)
            differ = len(joined[one]) >= _LONG_NAME and _differ_in_letters(joined[one], joined[other])
            if equal or (counts[one] <= _RARE * counts[other] and (doubled or differ)):
                pairs.add(f"{one} ({counts[one]}) and {other} ({counts[other]})")
    return sorted(pairs)


def _differ_in_letters(one: str, other: str) -> bool:
    """Return whether the first place where two names differ holds no digits: classes are often numbered."""
    shorter = min(len(one), len(other))
    start = next((place for place in range(shorter) if one[place] != other[place]), shorter)
    return not (one[start : start + 1] + other[start : start + 1]).isdecimal()
