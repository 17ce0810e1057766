"""The numbers in a sample of masks: whether they are numbers of classes."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer
from PIL import Image

from temper.data.images.doubts import is_lossy
from temper.data.images.mask_levels import MANY, count, explain_many, read_colours, read_numbers
from temper.data.images.mask_values import IGNORED, Meaning, show_colour
from temper.data.images.reading import Unreadable
from temper.data.images.store import Store
from temper.data.remark import Remark, remark_on

_EDGE_SHARE = 0.5
"""Share of a number's pixels on edges from which on the number may come from blurring."""
_GREY = 0x010101
"""Colour of a level of grey, as a multiple of the level."""
_MOST_OBJECTS, _MASKS_SHARE = 6, 0.95
"""How many different counts of numbers masks must have, and how many masks must number theirs 1, 2, 3, ..."""


@dataclass(frozen=True)
class Mask:
    """The numbers in one mask."""

    name: str
    pixels: dict[int, int]
    """Pixels of each number."""
    edges: dict[int, int]
    """Pixels of each number that lie between a lower and a higher one."""
    lossy: bool
    """Whether the file is stored with losses, which change numbers."""
    coloured: bool = False
    """Whether these are colours as 0xrrggbb, not numbers."""


def read_mask_numbers(store: Store, path: str) -> Mask:
    """Read which numbers a mask contains.

    Raises:
        Unreadable: If the file cannot be read as an image.
    """
    raw = store.read(path)
    assert isinstance(raw, bytes)
    try:
        image = Image.open(io.BytesIO(raw))
        plain = read_numbers(image)
        numbers = read_colours(image) if plain is None else plain
    except OSError as error:
        raise Unreadable(f"its mask cannot be read: {error}") from error
    edges = _find_edges(numbers) if plain is not None else np.zeros(numbers.shape, bool)
    return Mask(
        path.partition("/")[2], count(numbers), count(numbers[edges]), is_lossy(raw), coloured=plain is None
    )


def judge_numbers(masks: Sequence[Mask]) -> tuple[list[int | str], list[Remark]]:
    """Return the numbers of classes in some masks, or their colours, and what is doubtful about them.

    Raises:
        ValueError: If all masks are stored with losses, whose numbers mean nothing, or most have far too many
            colours.
    """
    lossy = [mask.name for mask in masks if mask.lossy]
    exact = [mask for mask in masks if not mask.lossy]
    if lossy and not exact:
        raise ValueError(
            f"all masks are JPEGs or other files with losses (for example {lossy[0]}), which change the "
            "numbers of classes along edges; store the drawn masks as PNG"
        )
    remarks = remark_on(
        "noticed",
        "masks are JPEGs or other files with losses, which change the numbers of classes along edges, so "
        "their numbers were not looked at; store the drawn masks as PNG",
        lossy,
    )
    if any(mask.coloured for mask in exact):
        return list(map(show_colour, _find_colours(exact))), remarks
    found = sorted({number for mask in exact for number in mask.pixels})
    if _number_objects(exact):
        same = ", ".join(f"{number}: 1" for number in found if number not in (0, IGNORED))
        text = (
            "masks seem to number objects, not classes: each has 1, 2, 3, ... as far as it needs; if all are "
            f"of one class, set problem.classes: [background, object] and prepare.mask_values: {{{same}}}"
        )
        remarks.append(Remark("noticed", text))
    text = (
        "numbers in masks lie mostly between a lower and a higher one, as if masks had been blurred: resize "
        "masks by nearest neighbour (PIL's NEAREST) only"
    )
    blurred = _on_edges(exact)
    # A single one may be a thin part of an object: a border, a membrane.
    return list(found), [*remarks, *remark_on("noticed", text, map(str, blurred if len(blurred) > 1 else []))]


def _find_colours(masks: Sequence[Mask]) -> list[int]:
    """Return the colours of masks as 0xrrggbb: black first, then the most frequent.

    Raises:
        ValueError: If most masks have far too many colours.
    """
    plain = [mask for mask in masks if len(mask.pixels) <= MANY]
    if 2 * len(plain) < len(masks):
        first = next(mask for mask in masks if len(mask.pixels) > MANY)
        raise ValueError(
            f"{len(masks) - len(plain)} of {len(masks)} sampled masks cannot be used, for example "
            f"{first.name}: {explain_many(Meaning(colours=True))}"
        )
    pixels = Counter[int]()
    for mask in plain:
        # A mask without any colour was read as numbers of grey.
        pixels.update({each * (1 if mask.coloured else _GREY): held for each, held in mask.pixels.items()})
    return sorted(pixels, key=lambda colour: (colour != 0, -pixels[colour]))


def _find_edges(numbers: Integer[np.ndarray, "height width"]) -> np.ndarray:
    """Return which pixels lie between a lower and a higher number, across or down."""
    edges = np.zeros(numbers.shape, bool)
    for these, found in ((numbers, edges), (numbers.T, edges.T)):
        before, here, after = these[:-2], these[1:-1], these[2:]
        found[1:-1] |= ((before < here) & (here < after)) | ((before > here) & (here > after))
    return edges


def _on_edges(masks: Sequence[Mask]) -> list[int]:
    pixels, edges = Counter[int](), Counter[int]()
    for mask in masks:
        pixels.update(mask.pixels)
        edges.update(mask.edges)
    return sorted(number for number, count in edges.items() if count > _EDGE_SHARE * pixels[number])


def _number_objects(masks: Sequence[Mask]) -> bool:
    """Return whether masks number the objects that they show 1, 2, 3, ... each."""
    sets = [sorted(set(mask.pixels) - {0, IGNORED}) for mask in masks]
    counted = sum(numbers == list(range(1, len(numbers) + 1)) for numbers in sets)
    return len({*map(len, sets)}) >= _MOST_OBJECTS and counted >= _MASKS_SHARE * len(sets)
