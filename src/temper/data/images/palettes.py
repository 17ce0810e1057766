"""Palettes of masks: if files number the same colours differently, their numbers mean other classes."""

import io
from collections.abc import Iterator

import numpy as np
from PIL import Image

from temper.data.images.reading import Raw
from temper.data.remark import Remark, remark_on

Colour = tuple[int, int, int]
Palette = frozenset[tuple[int, Colour]]
"""The numbers that a mask uses, each with its colour."""


def read_palette(raw: Raw) -> Palette | None:
    """Return the palette of a mask; None if it has none, or two equal colours, which tell nothing."""
    if not isinstance(raw, bytes):
        return None
    try:
        mask = Image.open(io.BytesIO(raw))
        colours = mask.getpalette("RGB")
        if mask.mode != "P" or not colours:
            return None
        used = np.unique(np.asarray(mask)).tolist()
    except (OSError, ValueError, SyntaxError):
        return None  # reading the mask says what is wrong
    if 3 * max(used) + 3 > len(colours):
        return None  # numbers beyond the palette have no colour
    found: dict[int, Colour] = {
        number: (colours[3 * number], colours[3 * number + 1], colours[3 * number + 2]) for number in used
    }
    return frozenset(found.items()) if len({*found.values()}) == len(found) else None


class Palettes:
    """The palettes of all masks of a dataset."""

    def __init__(self) -> None:
        self._names: dict[Palette, list[str]] = {}

    def add(self, name: str, palette: Palette) -> None:
        """Note the palette of a file."""
        self._names.setdefault(palette, []).append(name)

    def check(self) -> list[Remark]:
        """Return a remark on numbers that have other colours in other files, which may be harmless.

        Raises:
            ValueError: If a colour has different numbers in two files.
        """
        numbers: dict[Colour, tuple[int, str]] = {}
        for number, colour, name in self._all():
            other, first = numbers.setdefault(colour, (number, name))
            if other != number:
                raise ValueError(
                    f"palettes of masks differ: colour #{bytes(colour).hex()} is number {other} in {first} "
                    f"and number {number} in {name}, so the numbers do not mean the same classes; store all "
                    "masks with one palette or, if the numbers are right and only the colours differ, set "
                    "prepare.mask_palettes: ignore"
                )
        colours: dict[int, Colour] = {}
        unlike = dict.fromkeys(
            name for number, colour, name in self._all() if colours.setdefault(number, colour) != colour
        )
        text = "masks give their numbers other colours than the first ones do; only the numbers count"
        return remark_on("noticed", text, unlike)

    def _all(self) -> Iterator[tuple[int, Colour, str]]:
        for palette, names in self._names.items():
            for name in names:
                for number, colour in sorted(palette):
                    yield number, colour, name
