"""Outlines of objects as annotations give them, polygons or lengths of runs, and masks drawn of them.

A pixel belongs to a polygon if its middle lies inside, so that the areas of neighbours neither overlap nor
leave gaps. COCO's own tool draws an edge that differs by less than a pixel.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8
from PIL import Image

from temper.data.images.mask_values import IGNORED

Polygon = Float[np.ndarray, "corners 2"]
_ORIENTATION = 0x0112
_LEAST_CORNERS = 3


@dataclass(frozen=True)
class Runs:
    """Pixels of an object as lengths of runs, by turns outside and inside, column by column (COCO's RLE)."""

    counts: str | Sequence[int]
    """The lengths, or COCO's text for them."""
    size: tuple[int, int]
    """Width and height in pixels of the image that they count."""

    def lengths(self) -> Int64[np.ndarray, "runs"]:
        """Return the lengths of the runs.

        Raises:
            ValueError: If the text cannot be read.
        """
        return read_counts(self.counts) if isinstance(self.counts, str) else np.array(self.counts, np.int64)

    def check(self, size: tuple[int, int]) -> None:
        """Check that the runs fill an image of this width and height.

        Raises:
            ValueError: If they do not, or their text cannot be read.
        """
        width, height = size
        if self.size != size:
            raise ValueError(
                f"its runs are for {'x'.join(map(str, self.size))} px, but its image has {width}x{height} px"
            )
        lengths = self.lengths()
        if (lengths < 0).any() or int(lengths.sum()) != width * height:
            raise ValueError(f"its runs count {int(lengths.sum())} of {width * height} pixels")

    def inside(self) -> Bool[np.ndarray, "height width"]:
        """Return which pixels belong to the object, after `check`.

        Example:
            >>> Runs([1, 2, 1], (2, 2)).inside().astype(int)
            array([[0, 1],
                   [1, 0]])
        """
        lengths = self.lengths()
        flat = np.repeat(np.arange(len(lengths)) % 2 == 1, lengths)
        return np.asarray(flat.reshape(*self.size).T)


@dataclass(frozen=True)
class Outline:
    """An object that can be drawn: polygons that are its parts, or runs."""

    number: int
    """Number of its class in the mask; 255 if its pixels do not count."""
    shape: Sequence[Polygon] | Runs


def read_counts(text: str) -> Int64[np.ndarray, "runs"]:
    """Return the lengths of runs from COCO's text.

    Each character has five bits of a number, lowest first, and a sixth bit that says whether more follow; the
    highest bit of all is the sign. From the fourth number on they are differences from the last but one.

    Raises:
        ValueError: If a character is none of these, or the text ends within a number.

    Example:
        >>> read_counts("12").tolist(), read_counts("P1").tolist(), read_counts("1234").tolist()
        ([1, 2], [32], [1, 2, 3, 6])
    """
    counts: list[int] = []
    value, shift = 0, 0
    for character in text:
        bits = ord(character) - ord("0")
        if not 0 <= bits < 64:
            raise ValueError(f"its runs have the character {character!r}, which COCO does not use")
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) > 2 else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("the text of its runs is cut off")
    return np.array(counts, np.int64)


def hull(polygons: Sequence[Polygon]) -> list[float]:
    """Return left, top, right and bottom of the box round polygons.

    Example:
        >>> hull([np.array([[1.0, 5.0], [4.0, 2.0], [3.0, 7.0]])])
        [1.0, 2.0, 4.0, 7.0]
    """
    corners = np.concatenate(list(polygons))
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def paint(canvas: UInt8[np.ndarray, "height width"], polygon: Polygon, number: int) -> None:
    """Set the pixels of a canvas whose middles lie inside a polygon.

    Example:
        >>> canvas = np.zeros((3, 4), np.uint8)
        >>> paint(canvas, np.array([[1, 0], [3, 0], [3, 2], [1, 2]], float), 7)
        >>> canvas
        array([[0, 7, 7, 0],
               [0, 7, 7, 0],
               [0, 0, 0, 0]], dtype=uint8)
    """
    height, width = canvas.shape
    if len(polygon) < _LEAST_CORNERS:
        return
    starts, ends = polygon, np.roll(polygon, -1, axis=0)
    # Rows whose middle line an edge crosses, and the column from which on a crossing counts.
    rows = np.ceil(np.stack([starts[:, 1], ends[:, 1]]) - 0.5).clip(0, height).astype(np.int64)
    first, counts = rows.min(axis=0), np.ptp(rows, axis=0)
    edges = np.repeat(np.arange(len(polygon)), counts)
    if not len(edges):
        return
    down = np.arange(len(edges)) - np.repeat(np.cumsum(counts) - counts, counts) + first[edges]
    (left, top), (right, bottom) = starts[edges].T, ends[edges].T
    across = left + (down + 0.5 - top) * (right - left) / (bottom - top)
    columns = np.ceil(across - 0.5).clip(0, width).astype(np.int64)
    highest, leftmost = int(down.min()), int(columns.min())
    crossings = np.zeros((int(down.max()) - highest + 1, int(columns.max()) - leftmost + 1), np.uint8)
    np.bitwise_xor.at(crossings, (down - highest, columns - leftmost), 1)
    inside = np.bitwise_xor.accumulate(crossings, axis=1)[:, :-1].astype(bool)
    part = canvas[highest : highest + inside.shape[0], leftmost : leftmost + inside.shape[1]]
    part[inside] = number


def draw_mask(outlines: Sequence[Outline], size: tuple[int, int]) -> UInt8[np.ndarray, "height width"]:
    """Return a mask of the class numbers of objects: smaller ones lie on larger ones, 0 is the background.

    What does not count lies below all objects.

    Args:
        outlines: The objects.
        size: Width and height in pixels; runs must fill it.
    """
    width, height = size
    drawn = []
    for place, each in enumerate(outlines):
        layer = np.zeros((height, width), np.uint8)
        if isinstance(each.shape, Runs):
            layer[each.shape.inside()] = 1
        else:
            for polygon in each.shape:
                paint(layer, polygon, 1)
        lines = np.flatnonzero(layer.any(axis=1))
        if len(lines):
            part = slice(int(lines[0]), int(lines[-1]) + 1)
            crowd = each.number == IGNORED
            drawn.append((not crowd, -int(layer.sum()), place, each.number, part, layer[part] > 0))
    mask = np.zeros((height, width), np.uint8)
    for *_, number, part, inside in sorted(drawn, key=lambda each: each[:3]):
        mask[part][inside] = number
    return mask


def encode_mask(mask: UInt8[np.ndarray, "height width"], *, orientation: int = 1) -> bytes:
    """Return a mask as PNG; `orientation` is that of EXIF, by which its reader turns it."""
    stream = io.BytesIO()
    exif = Image.Exif()
    if orientation > 1:
        exif[_ORIENTATION] = orientation
    Image.fromarray(mask).save(stream, "PNG", exif=exif if orientation > 1 else b"")
    return stream.getvalue()


def as_polygon(numbers: Sequence[float]) -> Polygon | None:
    """Return a polygon from places across and down by turns; None if they are odd, too few or not finite.

    Example:
        >>> as_polygon([1, 2, 3, 4, 5, 6]).shape, as_polygon([1, 2, 3])
        ((3, 2), None)
    """
    if len(numbers) % 2 or len(numbers) < 2 * _LEAST_CORNERS:
        return None
    polygon = np.array(numbers, np.float64).reshape(-1, 2)
    return polygon if np.isfinite(polygon).all() else None
