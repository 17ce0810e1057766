"""Several labels in one cell of a table: which text joins them."""

import ast
import re
from collections import Counter
from collections.abc import Sequence

USUAL = ";"
"""Text that joins labels wherever it occurs."""
NOT_GIVEN = frozenset({"NaN", "nan", "<NA>", "#N/A", "NaT"})
"""Texts that pandas and Excel write for a cell without a value."""
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
