"""Labels that may not be what they seem: several ones, none, garbled text, or the name of another folder."""

import re
from collections.abc import Collection

from temper.data.remark import Remark, remark_on

MAYBE_MISSING = frozenset({"?", "-", "none", "null", "na", "n/a", "unknown", "missing"})
"""Labels, in small letters, that may mean that there is no label."""
_NO_CLASS = re.compile(
    r"(new folder|untitled folder|neuer ordner|nouveau dossier|unsorted|to[ _-]?do|temp|tmp|backup|bak|trash"
    r"|downloads?|exports?|outputs?|results?|archive|delete|to[ _-]delete|duplicates?|rejected|misc)"
    r"([ _-]*\(?\d+\)?)?|.+[ _-](aug|augmented|flipped|rotated|resized|cropped|thumbs|thumbnails|backup)",
    re.IGNORECASE,
)
"""Names of folders that people make for other purposes than a class."""


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


def remark_on_labels(labels: Collection[str], *, apart: str) -> list[Remark]:
    """Return which labels may be several ones, or may mean that there is none.

    Args:
        labels: All labels.
        apart: What to do with several labels that were taken for one.
    """
    joined = sorted(
        label for label in labels if re.search(r"[|,;&+]|\sand\s", label) or _consists_of(label, labels)
    )
    missing = sorted(label for label in labels if label.lower() in MAYBE_MISSING)
    garbled = sorted(f"{label} = {plain}" for label in labels if (plain := _ungarbled(label)) is not None)
    quoted = sorted(label for label in labels if re.fullmatch(r"""b?(['"]).*\1|\{.*\}""", label))
    return [
        *remark_on(
            "noticed",
            f"classes have names that may be several labels; if so, {apart}",
            joined,
        ),
        *remark_on("noticed", "classes have names that may mean that there is no label", missing),
        *remark_on("noticed", "classes have names in UTF-8 that a program read as Latin-1", garbled),
        *remark_on(
            "noticed",
            "classes are called as folders are that hold no class; if so, move or remove their images",
            sorted(label for label in labels if _NO_CLASS.fullmatch(label)),
        ),
        *remark_on("noticed", "classes have quotes or braces in their names, as programs write them", quoted),
    ]
