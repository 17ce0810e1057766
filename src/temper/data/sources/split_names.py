"""Names of splits as people write them."""

import re

_NAMES = {
    "train": "train",
    "training": "train",
    "trn": "train",
    "validation": "validation",
    "valid": "validation",
    "val": "validation",
    "dev": "validation",
    "eval": "validation",
    "test": "test",
    "testing": "test",
    "tst": "test",
}
_JOINTS = re.compile(r"[\W_]+")
"""What is between the words of a name."""
SPELLINGS = "train (training), validation (val, valid, dev, eval) and test (testing), in any case"
"""The names, for messages."""


def split_of(name: str) -> str | None:
    """Return the split that a name means, or None.

    Example:
        >>> split_of("Training"), split_of("VAL"), split_of("extra")
        ('train', 'validation', None)
    """
    return _NAMES.get(name.strip().lower())


def words_of_split(name: str) -> list[str]:
    """Return the words of a name that mean a split, with the numbers behind them.

    Example:
        >>> words_of_split("instances_train2017"), words_of_split("my-val_set"), words_of_split("retrain")
        (['train2017'], ['val'], [])
    """
    return [word for word in _JOINTS.split(name) if split_of(word.rstrip("0123456789"))]


def split_in(path: str) -> str | None:
    """Return the split that a path says, its last part first; None if it says none.

    Example:
        >>> split_in("valid/_annotations.coco"), split_in("images/train2017"), split_in("images")
        ('validation', 'train', None)
    """
    for part in reversed(path.split("/")):
        for word in words_of_split(part):
            return split_of(word.rstrip("0123456789"))
    return None
