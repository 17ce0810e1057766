"""What the numbers or colours in masks mean: `prepare.mask_values`."""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Annotated, Any

from pydantic import BeforeValidator

from temper.fields import by_layout

IGNORED = 255
"""Number of pixels in masks that do not count."""
_HEX = re.compile(r"#([0-9a-f]{6})", re.IGNORECASE)
_TRIPLE = re.compile(r"\[?\s*(\d{1,3})\s*,\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\]?")


def read_key(key: object) -> int | str:
    """Return a number in masks, or a colour as `#rrggbb` in small letters.

    Raises:
        ValueError: If it is neither.

    Example:
        >>> read_key("255"), read_key("#FF0000"), read_key("[255, 0, 0]")
        (255, '#ff0000', '#ff0000')
    """
    text = str(key).strip()
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    if found := _HEX.fullmatch(text):
        return text.lower()
    if (found := _TRIPLE.fullmatch(text)) and max(levels := [int(each) for each in found.groups()]) <= 255:
        return f"#{bytes(levels).hex()}"
    raise ValueError(
        f"{text!r} is neither a number in masks nor a colour; write 255, or '#ff0000' in quotes (red, green, "
        "blue)"
    )


def read_keys(values: object) -> object:
    """Return a mapping whose keys are numbers and colours.

    Raises:
        ValueError: If a key is neither, or there twice.

    Example:
        >>> read_keys({"0": "ground", "255,0,0": "road"})
        {0: 'ground', '#ff0000': 'road'}
    """
    if not isinstance(values, dict):
        return values
    found: dict[int | str, object] = {}
    for key, value in values.items():
        if (plain := read_key(key)) in found:
            raise ValueError(f"{key!r} is there twice, perhaps written otherwise; name it once")
        found[plain] = value
    return found


MaskValues = Annotated[dict[int | str, int | str], BeforeValidator(read_keys)]
"""Number or colour in the masks -> name or number of its class."""


@dataclass(frozen=True)
class Meaning:
    """The class of each number or colour in masks."""

    numbers: Mapping[int, int] = field(default_factory=dict)
    """Number in the files, or colour as 0xrrggbb -> class number."""
    colours: bool = False
    """Whether the colours of masks count, not their numbers."""
    whole: bool = False
    """Whether a number or colour that is not named makes a mask unusable, and does not mean itself."""

    def show(self, value: int) -> str:
        """Return a number or colour as text."""
        return show_colour(value) if self.colours else str(value)


AS_WRITTEN = Meaning()
"""The meaning of masks whose numbers are class numbers."""


def show_colour(value: int) -> str:
    """Return a colour as text.

    Example:
        >>> show_colour(0xFF8000)
        '#ff8000'
    """
    return f"#{value:06x}"


def read_meaning(values: Mapping[int | str, int | str], classes: Sequence[str]) -> Meaning:
    """Return the class number of each number or colour.

    Numbers that only become other numbers leave all others as they are. If a class is named, or if keys are
    colours, everything in the masks must be named.

    Args:
        values: `prepare.mask_values`.
        classes: Names of the classes, in the order of their numbers.

    Raises:
        ValueError: If keys are numbers and colours, or a class is not known.
    """
    keys = [read_key(key) for key in values]
    coloured = [key for key in keys if isinstance(key, str)]
    if 0 < len(coloured) < len(keys):
        number = next(key for key in keys if isinstance(key, int))
        raise ValueError(
            f"prepare.mask_values names the number {number} and the colour {coloured[0]}: masks are read by "
            "their numbers or by their colours; write all keys as colours (black is '#000000'), or none"
        )
    numbers = {
        int(key[1:], 16) if isinstance(key, str) else key: _class_number(value, classes)
        for key, value in zip(keys, values.values(), strict=True)
    }
    named = any(isinstance(value, str) for value in values.values())
    return Meaning(numbers, bool(coloured), whole=named or bool(coloured))


def with_named_classes(problem: Any, values: Mapping[int | str, int | str]) -> Any:
    """Return a problem with the classes that `prepare.mask_values` names, in order, if it has none itself.

    Raises:
        ValueError: If masks have no classes, or prepare.mask_values names a class that there is not.
    """
    if not by_layout(problem.truth, "map"):
        return problem
    classes = problem.classes
    if not classes and all(isinstance(value, str) or value == IGNORED for value in values.values()):
        classes = tuple(dict.fromkeys(value for value in values.values() if isinstance(value, str)))
        if len(classes) == 1:
            raise ValueError(
                f"prepare.mask_values names one class only, {classes[0]!r}; name what the other numbers "
                "mean, too, e.g. {0: background, 255: cell}"
            )
        problem = replace(problem, classes=classes)
    if not classes and values:
        raise ValueError(
            "problem.classes is missing: name the classes in the order of their numbers in the masks, "
            "background first, or give names in prepare.mask_values"
        )
    read_meaning(values, classes)
    return problem


def _class_number(value: int | str, classes: Sequence[str]) -> int:
    """Return the number of a class.

    Raises:
        ValueError: Names the value, and the nearest class.
    """
    if isinstance(value, int):
        if 0 <= value < (len(classes) or IGNORED) or value == IGNORED:
            return value
        raise ValueError(
            f"prepare.mask_values: {value} is no class number; those of problem.classes are 0 to "
            f"{len(classes) - 1}, and {IGNORED} is for pixels that do not count"
        )
    if value in classes:
        return classes.index(value)
    near = difflib.get_close_matches(value, classes, n=1)
    hint = f" (nearest: {near[0]!r})" if near else ""
    raise ValueError(
        f"prepare.mask_values: {value!r} is not among problem.classes{hint}; correct it, or add it there"
    )
