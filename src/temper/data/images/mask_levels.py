"""The number or colour of each pixel of a mask, and what is said of those that no class is given for."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Integer
from PIL import Image

from temper.data.images.mask_values import IGNORED, Meaning, show_colour
from temper.data.images.reading import Unreadable

MANY = 16
"""Number of different numbers or colours of which most come from blurring, or from a photograph."""
_SHOWN = 3
_LISTED = 32
"""Number of colours that a message lists for pasting."""
Counts = Mapping[int, int]
"""Number or colour -> its pixels."""


class ColourMask(Unreadable):
    """Raised for a mask in colour where numbers are expected.

    Args:
        reason: What is wrong with it.
        counts: Its colours.
    """

    def __init__(self, reason: str, counts: Counts) -> None:
        super().__init__(reason)
        self.counts = counts


def read_numbers(mask: Image.Image) -> np.ndarray | None:
    """Return the numbers of a mask, e.g. the indices of a palette; None if it has colours and no palette.

    Raises:
        Unreadable: If only its transparency differs.
    """
    numbers = np.asarray(mask)
    if numbers.ndim == 3 and mask.mode in ("RGB", "RGBA", "LA"):
        colours = numbers[..., : 1 if mask.mode == "LA" else 3]
        if mask.mode in ("RGBA", "LA") and not np.ptp(colours) and np.ptp(numbers[..., -1]):
            raise Unreadable(
                "its mask is one colour, and only its transparency differs; store the class numbers as grey "
                "PNG without transparency"
            )
        if not (colours == colours[..., :1]).all():
            return None
        numbers = colours[..., 0]  # a grey mask that was stored as colour
    if numbers.ndim != 2 or numbers.dtype.kind not in "bui":
        raise Unreadable(
            f"its mask has mode {mask.mode}; one class number per pixel is "
            "expected: store masks as grey PNG, or with a palette"
        )
    return numbers


def read_colours(mask: Image.Image) -> Integer[np.ndarray, "tall wide"]:
    """Return the colour of each pixel of a mask as 0xrrggbb; transparency does not matter.

    Raises:
        Unreadable: If it has more than 8 bits, or no colours.
    """
    if mask.mode not in ("1", "L", "LA", "P", "PA", "RGB", "RGBA"):
        raise Unreadable(
            f"its mask has mode {mask.mode}, but prepare.mask_values names colours; store masks as PNG in "
            "RGB, or name numbers"
        )
    red, green, blue = np.moveaxis(np.asarray(mask.convert("RGB"), np.int32), -1, 0)
    return (red << 16) | (green << 8) | blue


def count(levels: np.ndarray) -> dict[int, int]:
    """Return the pixels of each number or colour, the most frequent first."""
    values, counts = np.unique(levels, return_counts=True)
    order = np.argsort(-counts, kind="stable")
    return {int(values[place]): int(counts[place]) for place in order}


def refuse_colours(mask: Image.Image, meaning: Meaning) -> ColourMask:
    """Return the error for a mask in colour where numbers are expected."""
    counts = count(read_colours(mask))
    if len(counts) > MANY:
        return ColourMask(explain_many(Meaning(colours=True)), counts)
    named = ", which names numbers" if meaning.numbers else ""
    listed = _list(counts, Meaning(colours=True), _LISTED)
    reason = (
        f"its mask has the colours {listed}; name the class of each in prepare.mask_values{named}: "
        f"{suggest_values(list(counts))}"
    )
    return ColourMask(reason, counts)


def explain_unnamed(unnamed: Counts, meaning: Meaning) -> str:
    """Return what is wrong with a mask that holds numbers or colours that prepare.mask_values does not name.

    Args:
        unnamed: These numbers or colours.
        meaning: What it names.
    """
    where = "prepare.mask_values does not name"
    if len(unnamed) > MANY:
        return explain_many(meaning, f" that {where}")
    what = "colour" if meaning.colours else "number"
    shown = _list(unnamed, meaning, _SHOWN)
    more = f" and {len(unnamed) - _SHOWN} more" if len(unnamed) > _SHOWN else ""
    return (
        f"its mask has the {what}{'s' if len(unnamed) > 1 else ''} {shown}{more}, which {where}; add its "
        f"class there ({IGNORED} if such pixels shall not count), or correct the mask"
    )


def suggest_values(colours: Sequence[int], most: int = _LISTED) -> str:
    """Return `prepare.mask_values` for colours as a line of params.yaml, with names to be replaced.

    Black comes first, since it is the usual background.

    Example:
        >>> suggest_values([0xFF0000, 0])
        'prepare.mask_values: {"#000000": background, "#ff0000": class-1} (with the names of your classes)'
    """
    ordered = sorted(colours, key=lambda colour: colour != 0)
    listed = ", ".join(
        f'"{show_colour(colour)}": {f"class-{number}" if number else "background"}'
        for number, colour in enumerate(ordered[:most])
    )
    more = f" (and {len(ordered) - most} more colours)" if len(ordered) > most else ""
    return f"prepare.mask_values: {{{listed}}}{more} (with the names of your classes)"


def _list(counts: Counts, meaning: Meaning, most: int) -> str:
    return ", ".join(f"{meaning.show(value)} ({pixels} px)" for value, pixels in list(counts.items())[:most])


def explain_many(meaning: Meaning, which: str = "") -> str:
    """Return why a mask has far too many numbers or colours; the same words for all masks, to count them."""
    what = "colours" if meaning.colours else "numbers"
    return (
        f"its mask has more than {MANY} {what}{which}, as smooth edges, resizing and JPEG make "
        "them in few pixels each, or as photographs have: draw masks without smooth edges, resize them by "
        "nearest neighbour, and store them as PNG, or exchange images and masks if they are confused"
    )


class UnnamedColours:
    """The colours of all masks that are in colour where numbers are expected."""

    def __init__(self) -> None:
        self._pixels: dict[int, int] = {}
        self._masks = self._blurred = 0

    def add(self, counts: Counts) -> None:
        """Note the colours of a mask."""
        self._masks += 1
        if len(counts) > MANY:
            self._blurred += 1
            return
        for colour, pixels in counts.items():
            self._pixels[colour] = self._pixels.get(colour, 0) + pixels

    def check(self, num_masks: int) -> None:
        """Stop if most masks are in colour.

        Args:
            num_masks: Number of all masks.

        Raises:
            ValueError: Lists the colours of all masks as a line for params.yaml.
        """
        if 2 * self._masks <= num_masks or not self._pixels or 2 * self._blurred > self._masks:
            return
        colours = sorted(self._pixels, key=lambda colour: -self._pixels[colour])
        blurred = f"; {self._blurred} have too many colours, as smooth edges make" if self._blurred else ""
        raise ValueError(
            f"{self._masks} of {num_masks} masks are in colour, and only you know what each colour means"
            f"{blurred}. Write {suggest_values(colours)}"
        )
