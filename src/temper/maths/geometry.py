"""Boxes and points in an image: where they are after the image was moved, and what is still seen of them.

Places are shares of the image's width and height, so that resizing does not move them. Whatever else moves an
image (a mirror, a shift, a crop) is a scale and an offset for each axis, and `move` applies them to all
columns that lie in the image. The same functions serve NumPy arrays and tensors.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from temper.fields import ABSENT, PRESENT, UNDECIDED, VALID, Field, Fit, Frame, by_layout

if TYPE_CHECKING:
    from torch import Tensor

BORDER = 114
"""Level of what is added round images, as in YOLO: near the mean of most photographs."""
_HALF_PX = 0.5 + 1e-6
"""Some count pixels by their middles, so that an edge is half a pixel outside."""
HIDDEN_SHARE = 0.75
"""Share of a box that must be hidden, or outside the image, to make it undecided."""
_UPRIGHT: dict[int, tuple[bool, bool, bool]] = {
    1: (False, False, False),
    2: (False, True, False),
    3: (False, True, True),
    4: (False, False, True),
    5: (True, False, False),
    6: (True, True, False),
    7: (True, True, True),
    8: (True, False, True),
}
"""EXIF orientation -> what makes places upright: whether across and down change places, and whether each is
then counted from the other end."""


def place_on_canvas(
    height: Any, width: Any, to: tuple[int, int], fit: Fit, largest: Any = max
) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Return the canvas on which an image lies before it is resized, and where it lies there.

    Everything that adds borders, or takes them out of an answer, asks this function.

    Args:
        height: Height of the image in pixels.
        width: Width of the image in pixels.
        to: Height and width in pixels to which the canvas is resized.
        fit: How images are brought to one size; the canvas of a stretched one is the image itself.
        largest: Function that returns the larger of two sizes; that of NumPy for arrays of sizes, that of
            torch for sizes in a graph.

    Returns:
        Height and width of the canvas, and what is above and left of the image on it, in pixels of the image.

    Example:
        >>> place_on_canvas(30, 60, (64, 64), "letterbox"), place_on_canvas(30, 60, (64, 64), "stretch")
        (((60, 60), (15, 0)), ((30, 60), (0, 0)))
        >>> place_on_canvas(30, 60, (8, 64), "keep-height"), place_on_canvas(30, 60, (64, 64), "keep-height")
        (((30, 240), (0, 0)), ((30, 60), (0, 0)))
    """
    if fit == "stretch":
        return (height, width), (0, 0)
    tall, wide = to
    across = largest(width, (height * wide + tall - 1) // tall)
    if fit == "keep-height":
        return (height, across), (0, 0)
    down = largest(height, (width * tall + wide - 1) // wide)
    return (down, across), ((down - height) // 2, (across - width) // 2)


def frame_of(height: int, width: int, to: tuple[int, int], fit: Fit) -> Frame:
    """Return where the image of one size, that a network sees, lies in the image that was sent.

    Example:
        >>> frame = frame_of(30, 60, (64, 64), "letterbox")
        >>> frame.scale, frame.offset, as_sent(np.array([[0.5, 0.25], [1.0, 1.0]]), frame).tolist()
        ((1.0, 0.5), (0.0, 0.25), [[30.0, 0.0], [60.0, 30.0]])
    """
    (tall, wide), (top, left) = place_on_canvas(height, width, to, fit)
    return Frame(height, width, (width / wide, height / tall), (left / wide, top / tall))


def as_seen(places_px: np.ndarray, frame: Frame) -> np.ndarray:
    """Return places in a sent image, [..., 2] in pixels across and down, as shares of the seen image.

    Raises:
        ValueError: If a place is outside the image by more than half a pixel.

    Example:
        >>> as_seen(np.array([30.0, 10.0]), Frame(height_px=20, width_px=60))
        array([0.5, 0.5])
    """
    swapped, *ends = _UPRIGHT[frame.orientation]
    size = np.array([frame.width_px, frame.height_px], np.float64)
    stored = size[::-1] if swapped else size
    outside = (places_px < -_HALF_PX) | (places_px > stored + _HALF_PX)
    if outside.any():
        worst = places_px[outside.any(-1)].reshape(-1, 2)[0]
        shown = "x".join(f"{side:g}" for side in stored)
        raise ValueError(
            f"the place ({worst[0]:g}, {worst[1]:g}) is outside the image of {shown} px; correct it, or "
            "remove the row (if EXIF turns the image, ingest.boxes_in says how places are counted)"
        )
    shares = (places_px / stored).clip(0, 1)
    shares = shares[..., ::-1] if swapped else shares
    shares = np.where(ends, 1 - shares, shares)
    return np.asarray(shares * frame.scale + frame.offset)


def as_sent(shares: np.ndarray, frame: Frame) -> np.ndarray:
    """Return places in a seen image, [..., 2] as shares, in pixels of the sent image, which is upright.

    Places beside the sent image, on the border that was added to it, are moved to its edge.
    """
    places = ((shares - np.array(frame.offset)) / np.array(frame.scale)).clip(0, 1)
    return np.asarray(places * (frame.width_px, frame.height_px))


def within_borders(frame: Frame, height: int, width: int) -> tuple[slice, slice]:
    """Return which lines and columns of a seen image of this size show nothing but the sent one.

    Example:
        >>> within_borders(frame_of(30, 60, (64, 64), "letterbox"), 64, 64)
        (slice(16, 48, None), slice(0, 64, None))
    """
    down, across = (
        slice(math.ceil(start * size - 1e-6), math.floor((start + share) * size + 1e-6))
        for size, start, share in zip((height, width), frame.offset[::-1], frame.scale[::-1], strict=True)
    )
    return down, across


def map_as_sent(numbers: np.ndarray, frame: Frame) -> np.ndarray:
    """Return a map of a seen image, [height, width], as it lies in the sent image, in the same size."""
    if frame.scale == (1.0, 1.0):
        return numbers
    places = (
        np.floor((start + (np.arange(size) + 0.5) / size * share) * size).astype(int).clip(0, size - 1)
        for size, start, share in zip(numbers.shape, frame.offset[::-1], frame.scale[::-1], strict=True)
    )
    return np.asarray(numbers[np.ix_(*places)])


def placed(fields: Mapping[str, Field]) -> frozenset[str]:
    """Return the names of the columns that `move` changes. Maps are moved as images are."""
    ragged = by_layout(fields, "boxes", "points")
    turned = {name for name, field in fields.items() if field.mirrored}
    return ragged | {f"{name}{VALID}" for name in ragged} | turned


def move(columns: Mapping[str, Any], fields: Mapping[str, Field], scale: Any, offset: Any) -> dict[str, Any]:
    """Return the columns of a batch after its images were moved: a place p becomes p * scale + offset.

    Boxes are cut at the edges of the image. A box of which less than a quarter is left, or a point outside,
    is undecided; a box of which nothing is left is absent.

    Args:
        columns: Columns of the truth, NumPy arrays or tensors, [batch, ...]; other columns stay as they are.
        fields: What the columns contain.
        scale: Scale across and down, [batch, 2]; negative across if the image is mirrored left to right.
        offset: Offset across and down as shares, [batch, 2].
    """
    moved = rename(columns, fields, (scale[:, 0] < 0) != (scale[:, 1] < 0))
    for name in sorted(by_layout(fields, "boxes", "points") & columns.keys()):
        if fields[name].layout == "points":
            places = moved[name] * scale[:, None] + offset[:, None]
        else:
            first, last = (
                moved[name][..., half] * scale[:, None] + offset[:, None] for half in (slice(2), slice(2, 4))
            )
            places = moved[name] * 1.0
            # A mirror exchanges left and right.
            places[..., :2], places[..., 2:] = first.clip(max=last), first.clip(min=last)
        moved[name], moved[f"{name}{VALID}"] = cut(fields[name], places, moved[f"{name}{VALID}"])
    return moved


def rename(columns: Mapping[str, Any], fields: Mapping[str, Field], mirrored: Any) -> dict[str, Any]:
    """Return the columns of a batch with the numbers of what a mirror changes: left hands become right ones.

    Args:
        columns: Columns of the truth, [batch, ...].
        fields: What the columns contain.
        mirrored: Which examples are mirrored, bool [batch].
    """
    found = dict(columns)
    for name, field in fields.items():
        if not field.mirrored or name not in columns:
            continue
        if field.layout == "points":
            order = list(field.mirrored)
            for each in (name, f"{name}{VALID}"):
                found[each] = columns[each] * 1
                found[each][mirrored] = columns[each][mirrored][:, order]
        else:
            where = mirrored.reshape(-1, *(1,) * (columns[name].ndim - 1))
            found[name] = columns[name] * 1
            for number, other in enumerate(field.mirrored):
                found[name][(columns[name] == number) & where] = other
    return found


def cut(field: Field, places: Any, valid: Any) -> tuple[Any, Any]:
    """Cut boxes or points, which may lie outside the image, at its edges; return them and what is valid."""
    inside, found = places.clip(0, 1), valid * 1
    if field.layout == "points":
        found[((places < 0) | (places > 1)).any(-1) & (valid == PRESENT)] = UNDECIDED
        return inside, found
    whole, left = ((boxes[..., 2:] - boxes[..., :2]).prod(-1) for boxes in (places, inside))
    found[(left < (1 - HIDDEN_SHARE) * whole) & (valid == PRESENT)] = UNDECIDED
    found[left <= 0] = ABSENT
    return inside, found


def hide(
    columns: "Mapping[str, Tensor]", fields: Mapping[str, Field], hidden: "Tensor"
) -> "dict[str, Tensor]":
    """Return the columns of a batch after parts of its images were covered.

    A box of which more than `HIDDEN_SHARE` is covered, and a covered point, become undecided.

    Args:
        columns: Columns of the truth, [batch, ...].
        fields: What the columns contain.
        hidden: Covered pixels, bool [batch, height, width].
    """
    import torch

    found = dict(columns)
    if not by_layout(fields, "boxes", "points") & columns.keys():
        return found
    height, width = hidden.shape[1:]
    sums = torch.nn.functional.pad(hidden.double().cumsum(1).cumsum(2), (1, 0, 1, 0))
    batch = torch.arange(len(hidden), device=hidden.device)[:, None]
    size = torch.tensor([width, height, width, height], device=hidden.device)
    for name in sorted(by_layout(fields, "boxes", "points") & columns.keys()):
        valid = columns[f"{name}{VALID}"]
        if fields[name].layout == "points":
            place = (columns[name] * size[:2]).floor().long()
            across, down = (place[..., i].clamp(0, int(size[i]) - 1) for i in (0, 1))
            covered = hidden[batch, down, across]
        else:
            places = columns[name] * size
            left, top = (places[..., i].floor().long().clamp(0, int(size[i])) for i in (0, 1))
            right, bottom = (places[..., i].ceil().long().clamp(0, int(size[i])) for i in (2, 3))
            inside = sums[batch, bottom, right] - sums[batch, top, right] - sums[batch, bottom, left]
            share = (inside + sums[batch, top, left]) / ((right - left) * (bottom - top)).clamp(min=1)
            covered = share > HIDDEN_SHARE
        found[f"{name}{VALID}"] = valid.masked_fill(covered & (valid == PRESENT), UNDECIDED)
    return found


def shift_of(moves: "Tensor", most_px: int, height: int, width: int) -> "tuple[Tensor, Tensor]":
    """Return scale and offset of the moves that `batch_transforms.draw_moves` draws, each [batch, 2].

    Args:
        moves: Vertical shift, and twice the horizontal shift plus 1 for a flip, counted from -`most_px`.
        most_px: Largest shift.
        height: Height of the images in pixels.
        width: Width of the images in pixels.
    """
    import torch

    down, across = moves[:, 0] - most_px, moves[:, 1] // 2 - most_px
    scale, offset = mirror_of(moves[:, 1] % 2 == 1)
    return scale, offset - scale * torch.stack([across / width, down / height], dim=1)


def mirror_of(flipped: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return scale and offset, each [batch, 2], of images of which some are mirrored left to right."""
    import torch

    sign = 1 - 2 * flipped.float()
    scale = torch.stack([sign, torch.ones_like(sign)], dim=1)
    return scale, torch.stack([flipped.float(), torch.zeros_like(sign)], dim=1)


def crop_of(box: Any, size: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return scale and offset, each [1, 2], of a crop: top, left, height and width, in pixels of the image.

    Args:
        box: The part of the image that is left.
        size: Height and width of the image in pixels.
    """
    top, left, height, width = box
    scale = np.array([[size[1] / width, size[0] / height]], np.float32)
    return scale, np.array([[-left / width, -top / height]], np.float32)
