"""Generated images of shapes: enough to try the whole pipeline in seconds, easy enough for a tiny network.

Each image has a dark noisy background and bright filled shapes of random size, position and colour. With
`truth: class`, `item`, `value` or `points` there is one shape. Otherwise there are one to three different
shapes, each in its own quarter of the image, so that no shape hides another. In masks, the background is 0
and the shapes are 1, 2, ... in the order of `SHAPES`.

In clips, one shape moves, and its direction is the class: left and right, or up and down, differ only in the
order of the frames.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from temper.data.source_params import Toys
from temper.problem import Row

SHAPES = ("circle", "square", "triangle", "cross")
_COLOURS = {"red": (255, 60, 60), "green": (60, 255, 60), "blue": (60, 60, 255)}
"""Colours of the shapes with `truth: item`."""
_WORDS = {
    "circle": ("circle", "disc", "ball"),
    "square": ("square", "box", "tile"),
    "triangle": ("triangle", "wedge", "arrowhead"),
    "cross": ("cross", "plus", "crossing"),
}
_OPENINGS = ("here is a", "somebody drew one", "this may be a", "look, a")
_ENDINGS = ("millimetres", "inches at noon", "points, seen twice", "feet or more")
DIRECTIONS = ("right", "left", "down", "up")
_FRAMES = 12
"""Number of frames in a clip."""
_MISSING_SHARE = 0.2
"""Share of the numbers that are missing."""
_ALONE = ("class", "item", "value", "points")
"""Truths of images with a single shape."""


def fetch(params: Toys, project: Path, out: Path) -> list[Row]:
    """Write `images.npy` and, for `truth: mask`, `masks.npy` (uint8 [count, size, size]); or `clips.npy`.

    Images are uint8 [count, size, size] or [count, size, size, 3]; clips have an axis of frames before these.
    """
    rng = np.random.default_rng(params.seed)
    if "clip" in params.inputs:
        return _fetch_clips(params, rng, out)
    size = params.size_px
    images = np.empty((params.count, size, size, 3), np.uint8)
    masks = np.zeros((params.count, size, size), np.uint8)
    rows = []
    for i in range(params.count):
        shown = _choose(i, params.truth, rng)
        colour = list(_COLOURS)[i // len(SHAPES) % len(_COLOURS)] if params.truth == "item" else None
        images[i], masks[i], squares = _draw(shown, params.truth in _ALONE, size, rng, colour)
        labels = tuple(f"{colour} {SHAPES[s]}" if colour else SHAPES[s] for s in sorted(shown))
        mask = f"masks.npy#{i}" if params.truth == "mask" else None
        truth = _describe(params.truth, shown, squares)
        given = _give(params, shown, squares, rng)
        path = f"images.npy#{i}" if "image" in params.inputs else f"toy-{i:05d}"
        rows.append(Row(f"toy-{i:05d}", path, labels=labels, mask=mask, truth=truth, given=given))
    # Grey images are the mean over the channels of the coloured ones.
    np.save(out / "images.npy", images if params.channels == 3 else images.mean(axis=3).astype(np.uint8))
    if params.truth == "mask":
        np.save(out / "masks.npy", masks)
    return rows


def _fetch_clips(params: Toys, rng: np.random.Generator, out: Path) -> list[Row]:
    """Write `clips.npy`, uint8 [count, frames, size, size] or [count, frames, size, size, 3]."""
    size = params.size_px
    clips = np.empty((params.count, _FRAMES, size, size, 3), np.uint8)
    rows = []
    for i in range(params.count):
        direction, shape = DIRECTIONS[i % len(DIRECTIONS)], int(rng.integers(len(SHAPES)))
        clips[i], square = _film(shape, direction, size, rng)
        given = _give(params, [shape], [square], rng)
        rows.append(Row(f"toy-{i:05d}", f"clips.npy#{i}", labels=(direction,), given=given))
    np.save(out / "clips.npy", clips if params.channels == 3 else clips.mean(axis=4).astype(np.uint8))
    return rows


def _film(
    shape: int, direction: str, size: int, rng: np.random.Generator
) -> tuple[np.ndarray, tuple[int, int, int]]:
    """Return the frames of a shape that moves, and left, top and side of its square in the first one.

    Films of opposite directions are drawn in the same way; then one is played backwards.
    """
    ground, tint = rng.integers(0, 80, 3), rng.integers(150, 256, 3)
    side = int(rng.integers(max(5, size // 4), size // 2))
    room = size - side
    far = int(rng.integers(room // 2, room + 1))
    start, beside = int(rng.integers(0, room - far + 1)), int(rng.integers(0, room + 1))
    places = np.rint(start + np.linspace(0, far, _FRAMES)).astype(int).tolist()
    if direction in ("left", "up"):
        places = places[::-1]
    squares = [(beside, each) if direction in ("up", "down") else (each, beside) for each in places]
    frames = np.clip(rng.normal(ground, 12.0, (_FRAMES, size, size, 3)), 0, 255)
    for frame, (left, top) in zip(frames, squares, strict=True):
        inside = _outline(shape, size, left, top, side)
        frame[inside] = np.clip(rng.normal(tint, 12.0, (int(inside.sum()), 3)), 0, 255)
    return frames.astype(np.uint8), (*squares[0], side)


def _describe(truth: str, shown: list[int], squares: list[tuple[int, int, int]]) -> str | None:
    """Return the truth of an image beside labels and mask; squares are left, top and side of its shapes."""
    left, top, side = squares[0]
    found: dict[str, Any] = {
        "value": {"side_px": side},
        "points": {
            "points": {
                "upper left": [left, top],
                "upper right": [left + side, top],
                "middle": [left + side / 2, top + side / 2],
            }
        },
        "boxes": {
            "boxes": [
                {"label": SHAPES[shape], "box": [left, top, left + side, top + side]}
                for shape, (left, top, side) in zip(shown, squares, strict=True)
            ]
        },
    }
    return json.dumps(found[truth]) if truth in found else None


def _give(
    params: Toys, shown: list[int], squares: list[tuple[int, int, int]], rng: np.random.Generator
) -> str | None:
    """Return what is given besides the image: a text that names the shapes, and numbers about the first one.

    Words come from their own random numbers only if they are wanted, so that other images do not change.
    """
    found: dict[str, Any] = {}
    if "text" in params.inputs:
        names = [_WORDS[SHAPES[shape]][int(rng.integers(3))] for shape in shown]
        opening, ending = (words[int(rng.integers(len(words)))] for words in (_OPENINGS, _ENDINGS))
        found["text"] = f"{opening} {' and a '.join(names)} of {rng.integers(1000)} {ending}"
    if "table" in params.inputs:
        corners = {"circle": 0, "square": 4, "triangle": 3, "cross": 12}[SHAPES[shown[0]]]
        counted = corners + rng.normal(0, 0.3)
        missing = rng.random() < _MISSING_SHARE
        found["table"] = {"side": squares[0][2], "corners": None if missing else round(float(counted), 3)}
    return json.dumps(found) if found else None


def _choose(i: int, truth: str, rng: np.random.Generator) -> list[int]:
    """Return the numbers of the shapes in image `i`; the shapes take turns to be about equally frequent."""
    first = i % len(SHAPES)
    if truth in _ALONE:
        return [first]
    others = rng.permutation([shape for shape in range(len(SHAPES)) if shape != first])
    return [first, *(int(shape) for shape in others[: rng.integers(0, 3)])]


def _draw(
    shown: list[int], alone: bool, size: int, rng: np.random.Generator, colour: str | None = None
) -> tuple[np.ndarray, np.ndarray, list[tuple[int, int, int]]]:
    """Return an image, its mask, and left, top and side of the square round each shape in px."""
    squares = []
    ground = rng.integers(0, 80, 3)
    image = np.clip(rng.normal(ground, 12.0, (size, size, 3)), 0, 255)
    mask = np.zeros((size, size), np.uint8)
    for shape, place in zip(shown, rng.permutation(4), strict=False):
        room = size if alone else size // 2
        side = int(rng.integers(max(5, room // 2), room))
        left, top = rng.integers(0, room - side + 1, 2) + (
            0 if alone else (size - room) * np.array([place % 2, place // 2])
        )
        squares.append((int(left), int(top), side))
        inside = _outline(shape, size, int(left), int(top), side)
        tint = np.array(_COLOURS[colour]) if colour else rng.integers(150, 256, 3)
        image[inside] = np.clip(rng.normal(tint, 12.0, (int(inside.sum()), 3)), 0, 255)
        mask[inside] = shape + 1
    return image.astype(np.uint8), mask, squares


def _outline(shape: int, size: int, left: int, top: int, side: int) -> np.ndarray:
    """Return the pixels of a shape, bool [size, size]."""
    canvas = Image.new("1", (size, size))
    draw = ImageDraw.Draw(canvas)
    right, bottom, third = left + side - 1, top + side - 1, side // 3
    if SHAPES[shape] == "circle":
        draw.ellipse((left, top, right, bottom), fill=1)
    elif SHAPES[shape] == "square":
        draw.rectangle((left, top, right, bottom), fill=1)
    elif SHAPES[shape] == "triangle":
        draw.polygon(((left, bottom), (right, bottom), ((left + right) // 2, top)), fill=1)
    else:
        draw.rectangle((left + third, top, right - third, bottom), fill=1)
        draw.rectangle((left, top + third, right, bottom - third), fill=1)
    return np.asarray(canvas, dtype=bool)
