"""Reading of clips: files with several frames that Pillow reads (GIF, APNG, WebP, TIFF), arrays of frames.

The same number of frames is taken from every file, evenly spread over all of its frames. Frames are counted,
not timed: slices of a scan have no time. Each of them is read as an image is (`reading.py`).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from temper.data.images.orientation import read_orientation, turn
from temper.data.images.reading import (
    Raw,
    TooLarge,
    Unreadable,
    as_plain,
    check_size,
    fit_channels,
    identify,
    notes_on,
    reasons,
    resize,
    was_wide,
)
from temper.data.images.wide_colour import read_wide_colour
from temper.data.remark import Note
from temper.inputs.clip_input import ClipInput, spread

_GIF, _LAST = b"GIF8", b";"
"""First bytes of a GIF, and its last one."""
_LEAST_PIXELS = 1024
"""Pixels that a smaller frame takes about as long as, so that millions of tiny frames are refused, too."""
_CUT = Note(
    "noticed",
    "GIFs lack their last byte, as files do whose end was lost: look at them, and fetch them again",
)
_SIZES = Note(
    "converted", "clips have frames of several sizes, each of which is brought to one size by itself"
)


@dataclass(frozen=True)
class Clip:
    """A clip as it is packed, and how it was read."""

    pixels: np.ndarray
    """uint8 [frames, height, width, channels]."""
    count: int
    """Number of frames of the file."""
    size: tuple[int, int]
    """Height and width of its first frame."""
    coloured: bool
    """Whether it has colour that was removed."""
    wide: bool
    """Whether it has more than 8 bits."""
    notes: tuple[Note, ...]
    """What was changed in its frames, or is doubtful about it."""


def read_clip(raw: Raw, clip: ClipInput, *, max_pixels: int, max_side_px: int) -> Clip:
    """Read a clip, also one with fewer frames than are wanted, which repeat.

    Args:
        raw: Content of a file, or frames [frames, height, width] or [frames, height, width, 3].
        clip: Wanted number and size of the frames, and how they are read.
        max_pixels: Largest number of pixels of all frames of the file together.
        max_side_px: Largest width or height of a frame.

    Raises:
        Unreadable: If it is no clip, is damaged, or is too large.
    """
    made: dict[int, np.ndarray] = {}
    notes: dict[Note, None] = {}
    sizes, coloured, wide, total = dict[tuple[int, int], None](), False, False, 0
    for place, count, frame in take_frames(raw, clip.frames, max_pixels=max_pixels, max_side_px=max_side_px):
        total = count
        image = as_plain(frame, None, clip.levels, clip.background)
        pixels = resize(image, *clip.size_px, clip.fit, max_pixels=max_pixels)
        made[place] = fit_channels(pixels, clip.channels)
        coloured |= clip.channels == 1 and pixels.ndim == 3 and _has_colour(pixels)
        wide |= was_wide(image)
        sizes[image.height, image.width] = None
        notes |= dict.fromkeys(notes_on(image))
    if len(sizes) > 1:
        notes[_SIZES] = None
    if isinstance(raw, bytes) and raw.startswith(_GIF) and not raw.rstrip(b"\0\r\n").endswith(_LAST):
        notes[_CUT] = None
    stacked = np.stack([made[place] for place in spread(total, clip.frames)])
    return Clip(stacked, total, next(iter(sizes)), coloured, wide, tuple(notes))


def take_frames(
    raw: Raw, wanted: int, *, max_pixels: int, max_side_px: int
) -> Iterator[tuple[int, int, Image.Image]]:
    """Yield the frames that are taken, in their order: the place of each, the number of all, and the image.

    The images are upright. An image is valid until the next one is taken.

    Args:
        raw: As for `read_clip`.
        wanted: Number of frames that are wanted.
        max_pixels: As for `read_clip`.
        max_side_px: As for `read_clip`.

    Raises:
        Unreadable: If the file is no clip, is damaged, or is too large.
    """
    if isinstance(raw, np.ndarray):
        if raw.ndim < 3 or not len(raw):
            raise Unreadable(f"an array of shape {list(raw.shape)} is no clip: [frames, height, width, 3]")
        for place in _taken(len(raw), wanted):
            yield place, len(raw), turn(Image.fromarray(np.ascontiguousarray(raw[place])), 1)
        return
    if not raw:
        raise Unreadable("the file is empty (0 bytes)")
    with reasons(raw):
        image = identify(raw)
        width, height = image.size
        check_size(width, height, max_pixels=max_pixels, max_side_px=max_side_px)
        count = int(getattr(image, "n_frames", 1))
        # Most formats store what changes from frame to frame, so all frames up to the last are decoded.
        if count * max(width * height, _LEAST_PIXELS) > max_pixels:
            raise TooLarge(
                f"{count} frames of {width}x{height} px, each counted as at least {_LEAST_PIXELS}: more "
                f"than prepare.max_pixels = {max_pixels}"
            )
        if read_wide_colour(raw) is not None:
            raise Unreadable("its frames have colours of 16 bits; store them with 8 bits, or in grey")
        orientation = read_orientation(image)
        for place in _taken(count, wanted):
            image.seek(place)
            check_size(*image.size, max_pixels=max_pixels, max_side_px=max_side_px)
            image.load()
            yield place, count, turn(image, orientation)


def _taken(count: int, wanted: int) -> Sequence[int]:
    return sorted({*spread(count, wanted)})


def _has_colour(pixels: np.ndarray) -> bool:
    return bool((pixels[..., :1] != pixels[..., 1:]).any())
