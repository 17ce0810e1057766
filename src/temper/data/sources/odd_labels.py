"""Labels that may not be what they seem: several ones, none, garbled text, or the name of another folder."""

import re
from collections.abc import Collection, Mapping

from temper.data.remark import Remark, remark_on

MAYBE_MISSING = frozenset(
    {
        "?",
        "-",
        "--",
        "none",
        "null",
        "(null)",
        "\\n",
        "nil",
        "na",
        "n/a",
        "n.a.",
        "unknown",
        "unk",
        "missing",
        "tbd",
    }
    | {"undefined", "empty", "anonymous", "unlabelled", "unlabeled", "xxx"}
    | {"#ref!", "#name?", "#value!", "#div/0!", "#num!", "#null!"}
)
"""Labels, in small letters, that may mean that there is no label."""
_FEW_GROUPS = 4
"""Number of groups up to which one of them may well be much larger."""
_NO_CLASS = re.compile(
    r"(new folder|untitled folder|neuer ordner|nouveau dossier|unsorted|to[ _-]?do|temp|tmp|backup|bak|trash"
    r"|downloads?|exports?|outputs?|results?|archive|delete|to[ _-]delete|duplicates?|rejected|misc|aug"
    r"|augmented|unsure|not[ _-]sure|skip|untitled|nueva carpeta|новая папка|新建文件夹)"
    r"([ _-]*\(?\d+\)?)?|aug[ _-].+"
    r"|.+[ _-](aug|augmented|augmentation|flip|flipped|rotated|resized|cropped|thumbs|thumbnails|backup)",
    re.IGNORECASE,
)
"""Names of folders that people make for other purposes than a class."""


def _consists_of(label: str, labels: Collection[str]) -> bool:
    """Return whether all parts of a label, between signs or blanks, are labels themselves."""
    parts = [part for part in re.split(r"[\W_]+|\b(?:and|und|et|y)\b", label) if part]
    return len(parts) > 1 and all(part in labels for part in parts)


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


def find_vague(sizes: Mapping[str, int]) -> dict[str, int]:
    """Return the groups that may mean that no group is known: by their name, or by holding most images.

    Args:
        sizes: Number of images of each group.

    Example:
        >>> find_vague({"7": 2, "8": 3, "UNK": 1, "9": 2}), find_vague({"a": 50, "b": 50})
        ({'UNK': 1}, {})
        >>> find_vague({"P1": 2, "P2": 3, "P3": 2, "P4": 1, "0": 40})
        {'0': 40}
    """
    ordered = sorted(sizes.values(), reverse=True)
    large = 5 * ordered[1] if len(ordered) > _FEW_GROUPS else float("inf")
    return {name: size for name, size in sizes.items() if name.casefold() in MAYBE_MISSING or size > large}


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
