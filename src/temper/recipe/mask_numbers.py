"""The numbers in a sample of masks: whether they are numbers of classes."""

import io
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Integer
from PIL import Image

from temper.data.images.doubts import is_lossy
from temper.data.images.mask_values import IGNORED
from temper.data.images.reading import Unreadable
from temper.data.images.store import Store
from temper.data.remark import Remark, remark_on

_EDGE_SHARE = 0.5
"""Share of a number's pixels on edges from which on the number may come from blurring."""
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


def read_mask_numbers(store: Store, path: str) -> Mask:
    """Read which numbers a mask contains.

    Raises:
        Unreadable: If the file cannot be read as an image.
    """
    raw = store.read(path)
    assert isinstance(raw, bytes)
    try:
        image = Image.open(io.BytesIO(raw))
        numbers = np.asarray(image)
    except OSError as error:
        raise Unreadable(f"its mask cannot be read: {error}") from error
    edges = _find_edges(numbers) if numbers.ndim == 2 else np.zeros(numbers.shape, bool)
    return Mask(path.partition("/")[2], _count(numbers), _count(numbers[edges]), is_lossy(raw))


def judge_numbers(masks: Sequence[Mask]) -> tuple[list[int], list[Remark]]:
    """Return the numbers of classes in some masks, and what is doubtful about them.

    Raises:
        ValueError: If all masks are stored with losses, whose numbers mean nothing.
    """
    lossy = [mask.name for mask in masks if mask.lossy]
    exact = [mask for mask in masks if not mask.lossy]
    if lossy and not exact:
        raise ValueError(
            f"all masks are JPEGs or other files with losses (for example {lossy[0]}), which change the "
            "numbers of classes along edges; store the drawn masks as PNG"
        )
    found = sorted({number for mask in exact for number in mask.pixels})
    remarks = remark_on(
        "noticed",
        "masks are JPEGs or other files with losses, which change the numbers of classes along edges, so "
        "their numbers were not looked at; store the drawn masks as PNG",
        lossy,
    )
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
    return found, [*remarks, *remark_on("noticed", text, map(str, blurred if len(blurred) > 1 else []))]


def _count(numbers: np.ndarray) -> dict[int, int]:
    values, counts = np.unique(numbers, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


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
