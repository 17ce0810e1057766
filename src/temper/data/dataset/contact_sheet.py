"""A sheet of small images in named lines, for looking at the data before training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from temper.fields import PRESENT, Field, by_layout, valid_column
from temper.fonts import find_font

_CELL_PX = 64
_WIDEST = 4
"""How many times as wide as high a cell may be, for examples of several inputs, and clips."""
_GAP_PX = 4
_NAME_PX = 150
_COLOURS = np.array(
    [
        [0, 0, 0],
        [230, 75, 60],
        [60, 150, 230],
        [80, 190, 90],
        [245, 190, 60],
        [160, 90, 200],
        [60, 200, 200],
        [240, 130, 190],
    ],
    np.float32,
)
"""Colours of the class numbers in masks, repeated if there are more classes; pixels of class 0 are not
coloured."""


def write_sheet(lines: Sequence[tuple[str, Sequence[np.ndarray]]], path: Path) -> None:
    """Write lines of images (uint8 [height, width, channels]) as a PNG; cells are as wide as images need."""
    columns = max((len(images) for _, images in lines), default=0)
    aspect = max((image.shape[1] / len(image) for _, images in lines for image in images), default=1.0)
    wide = round(_CELL_PX * min(max(aspect, 1.0), _WIDEST))
    step, across = _CELL_PX + _GAP_PX, wide + _GAP_PX
    sheet = Image.new("RGB", (_NAME_PX + columns * across + _GAP_PX, len(lines) * step + _GAP_PX), "white")
    draw = ImageDraw.Draw(sheet)
    for line, (name, images) in enumerate(lines):
        top = _GAP_PX + line * step
        draw.text(
            (_GAP_PX, top + _CELL_PX // 2 - 7),
            name if len(name) < 24 else name[:22] + "…",
            fill="black",
            font=ImageFont.load_default(12) if name.isascii() else ImageFont.truetype(find_font(name), 12),
        )
        for column, image in enumerate(images):
            cell = _fit(image, wide)
            left = _NAME_PX + column * across
            sheet.paste(cell, (left + (wide - cell.width) // 2, top + (_CELL_PX - cell.height) // 2))
    sheet.save(path, optimize=False)


def mark(
    image: np.ndarray,
    columns: Mapping[str, np.ndarray],
    fields: Mapping[str, Field],
    colour: str | None = None,
) -> np.ndarray:
    """Return an image with its masks, boxes and points drawn over it; without any, return it unchanged.

    A small image is enlarged, so that lines do not hide what they surround.

    Args:
        image: uint8 [height, width, channels].
        columns: Truth or answer of the image.
        fields: What the columns contain.
        colour: Colour of boxes and points, without masks; None gives each class, or point, its own.
    """
    image = image if colour else _tint(image, columns, by_layout(fields, "map"))
    names = sorted(by_layout(fields, "boxes", "points") & columns.keys())
    if not names:
        return image
    times = max(1, _CELL_PX // max(image.shape[:2]))
    whole = image.repeat(times, axis=0).repeat(times, axis=1)
    whole = whole.repeat(3, axis=2) if whole.shape[2] == 1 else whole
    canvas = Image.fromarray(np.ascontiguousarray(whole))
    draw, size = ImageDraw.Draw(canvas), np.array([canvas.width, canvas.height])
    line = max(1, round(max(canvas.size) / _CELL_PX))  # a pixel of the sheet
    listed = sorted(by_layout(fields, "sequence") & columns.keys())
    labels = next((name for name in listed if fields[name].names), None)
    for name in names:
        valid = valid_column(name, columns)
        places = np.asarray(columns[name], np.float64).reshape(len(columns[name]), -1, 2) * size
        for number, ends in enumerate(places):
            if valid is not None and columns[valid][number] != PRESENT:
                continue
            kind = number if labels is None else int(columns[labels][number])
            tone = colour or tuple(_COLOURS[1 + kind % (len(_COLOURS) - 1)].astype(int).tolist())
            if len(ends) == 2:
                last = (ends[1] - 1).clip(min=ends[0])
                draw.rectangle([*ends[0].tolist(), *last.tolist()], outline=tone, width=line)
            else:
                draw.circle(ends[0].tolist(), 2 * line, fill=tone, outline="black")
    return np.asarray(canvas)


def _tint(image: np.ndarray, columns: Mapping[str, np.ndarray], maps: frozenset[str]) -> np.ndarray:
    """Return an image with its masks drawn over it in colours; without masks, return it unchanged."""
    for name in sorted(maps & set(columns)):
        numbers = np.asarray(columns[name])
        if numbers.shape != image.shape[:2]:
            continue
        marked = (numbers > 0) & (numbers != 255)
        colour = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else np.array(image)
        tone = _COLOURS[1 + (numbers[marked].astype(np.int64) - 1) % (len(_COLOURS) - 1)]
        colour[marked] = (0.55 * colour[marked] + 0.45 * tone).astype(np.uint8)
        image = colour
    return image


def _fit(pixels: np.ndarray, wide: int) -> Image.Image:
    """Return an image as large as a cell allows, with its proportions."""
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels))
    times = min(_CELL_PX // image.height, wide // image.width)
    if times >= 1:
        return image.resize((image.width * times, image.height * times), Image.Resampling.NEAREST)
    scale = min(_CELL_PX / image.height, wide / image.width)
    size = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
    return image.resize(size, Image.Resampling.BILINEAR)
