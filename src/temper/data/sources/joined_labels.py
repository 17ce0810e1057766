"""Several labels in one cell of a table: which text joins them."""

import ast
import re
from collections import Counter
from collections.abc import Collection, Sequence

from temper.data.remark import Remark, remark_on

USUAL = ";"
"""Text that joins labels wherever it occurs."""
NOT_GIVEN = frozenset({"NaN", "nan", "<NA>", "#N/A", "NaT"})
"""Texts that pandas and Excel write for a cell without a value."""
MAYBE_MISSING = frozenset({"?", "-", "none", "null", "na", "n/a", "unknown", "missing"})
"""Labels, in small letters, that may mean that there is no label."""
_OTHERS = ("|", ",", "/", "+", " ")


def as_list(cell: str) -> list[str] | None:
    """Return the labels of a cell that is written as a list of Python or JSON; None for another cell.

    Example:
        >>> as_list("['cat', 'dog']"), as_list('["cat"]'), as_list("cat"), as_list("[cat]")
        (['cat', 'dog'], ['cat'], None, None)
        >>> as_list("['cat' 'dog']"), as_list("('cat', 'dog')"), as_list("{'class': 'cat'}")
        (['cat', 'dog'], ['cat', 'dog'], None)
    """
    if cell[:1] + cell[-1:] not in ("[]", "()", "{}"):
        return None
    try:
        # NumPy writes no commas between texts, which Python would join.
        found = ast.literal_eval(re.sub(r"""(['"])\s+(?=['"])""", r"\1, ", cell))
    except (ValueError, SyntaxError):
        return None
    values = sorted(found, key=str) if isinstance(found, set) else found
    return [str(value) for value in values] if isinstance(found, list | tuple | set) else None


def find_joint(cells: Sequence[str]) -> str | None:
    """Return another text than `;` that joins labels, or None.

    It joins labels if every part of every cell that contains it also occurs in another cell. A blank joins
    labels only if every part also is a cell of its own, since names contain blanks. For `|`, which names do
    not contain, one such part is enough.

    Example:
        >>> find_joint(["cat|dog", "cat", "dog|owl", "owl|cat"])
        '|'
        >>> find_joint(["red fox", "grey fox", "red wolf", "grey wolf"]) is None
        True
    """
    distinct = sorted(set(cells))
    if any(USUAL in cell for cell in distinct):
        return None
    for joint in _OTHERS:
        parted = {cell: [part.strip() for part in cell.split(joint)] for cell in distinct if joint in cell}
        if not parted or any(not part for parts in parted.values() for part in parts):
            continue
        whole = {cell for cell in distinct if cell not in parted}
        seen = Counter(part for parts in parted.values() for part in set(parts))
        known = (any if joint == "|" else all)(
            part in whole or (joint != " " and seen[part] > 1) for parts in parted.values() for part in parts
        )
        if known:
            return joint
    return None


def _consists_of(label: str, labels: Collection[str]) -> bool:
    """Return whether all parts of a label, between slashes or blanks, are labels themselves."""
    return any(
        len(parts) > 1 and all(part in labels for part in parts)
        for parts in (label.split("/"), label.split())
    )


def _ungarbled(label: str) -> str | None:
    """Return what a label was before a program read its UTF-8 as Latin-1; None if none did.

    Example:
        >>> _ungarbled("Caf\u00c3\u00a9") == "Caf\u00e9", _ungarbled("Caf\u00e9"), _ungarbled("cat")
        (True, None, None)
    """
    if label.isascii():
        return None
    for encoding in ("latin-1", "cp1252"):
        try:
            return label.encode(encoding).decode("utf-8")
        except UnicodeError:
            continue
    return None


def remark_on_labels(labels: Collection[str]) -> list[Remark]:
    """Return which labels may be several ones, or may mean that there is none."""
    joined = sorted(
        label for label in labels if re.search(r"[|,;&+]|\sand\s", label) or _consists_of(label, labels)
    )
    missing = sorted(label for label in labels if label.lower() in MAYBE_MISSING)
    garbled = sorted(f"{label} = {plain}" for label in labels if (plain := _ungarbled(label)) is not None)
    quoted = sorted(label for label in labels if re.fullmatch(r"""b?(['"]).*\1|\{.*\}""", label))
    return [
        *remark_on(
            "noticed",
            "classes have names that may be several labels; if so, name what joins them: ingest.joined_by",
            joined,
        ),
        *remark_on("noticed", "classes have names that may mean that there is no label", missing),
        *remark_on("noticed", "classes have names in UTF-8 that a program read as Latin-1", garbled),
        *remark_on("noticed", "classes have quotes or braces in their names, as programs write them", quoted),
    ]
