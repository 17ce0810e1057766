"""Names of splits as people write them."""

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
SPELLINGS = "train (training), validation (val, valid, dev, eval) and test (testing), in any case"
"""The names, for messages."""


def split_of(name: str) -> str | None:
    """Return the split that a name means, or None.

    Example:
        >>> split_of("Training"), split_of("VAL"), split_of("extra")
        ('train', 'validation', None)
    """
    return _NAMES.get(name.strip().lower())
