"""Signs in one image or mask that its file is not what was meant, although it can be read."""

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from temper.data.images.masks import IGNORED
from temper.data.images.other_formats import holds_several
from temper.data.images.reading import Raw
from temper.data.remark import Note

_JPEG, _TIFF = b"\xff\xd8", (b"II*\x00", b"MM\x00*")
_CAMERA = (".cr2", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".orf", ".rw2", ".pef", ".srw", ".raf")
"""Endings of files that cameras write; many begin as a TIFF that contains a small preview only."""
_EMPTY, _LEAST_LINES = 128, 8
"""Level that libjpeg gives to pixels without data, and number of such lines at the end that is noticed."""
_SEVERAL = Note("left out", "files hold several images (animations, pages), of which only the first is used")
_CUT = Note(
    "noticed",
    "JPEGs end in lines of plain grey, as files do whose end was lost: look at them, and fetch them again",
)
_PREVIEW = Note(
    "noticed",
    "files are RAW files of a camera, of which only the small preview inside is read; convert them to PNG or "
    "TIFF, for example with darktable-cli",
)
_BLURRED = Note(
    "noticed", "masks are JPEGs, which change class numbers along edges; store masks as PNG of the drawn ones"
)


def doubt_image(raw: Raw, image: Image.Image, name: str) -> list[Note]:
    """Return what is doubtful about an image.

    Args:
        raw: Content of the file.
        image: The whole decoded image.
        name: Name of the file.
    """
    if isinstance(raw, np.ndarray):
        return []
    found = [_SEVERAL] if holds_several(raw) else []
    if raw.startswith(_JPEG) and _ends_empty(image):
        found.append(_CUT)
    if raw.startswith(_TIFF) and name.lower().endswith(_CAMERA):
        found.append(_PREVIEW)
    return found


def doubt_mask(
    raw: Raw, numbers: Integer[np.ndarray, "tall wide"], shrunk: UInt8[np.ndarray, "height width"]
) -> list[Note]:
    """Return what is doubtful about a mask.

    Args:
        raw: Content of the file.
        numbers: Class numbers of the whole mask, 0..255.
        shrunk: The mask in the size of the unified images.
    """
    found = [_BLURRED] if isinstance(raw, bytes) and raw.startswith(_JPEG) else []
    if numbers.shape != shrunk.shape:
        before, after = (np.bincount(each.ravel(), minlength=IGNORED + 1) > 0 for each in (numbers, shrunk))
        if (before & ~after)[:IGNORED].any():
            height, width = shrunk.shape
            text = (
                f"masks lose a class when they are resized to {width}x{height} px, because its objects are "
                "too small; raise prepare.height_px and prepare.width_px to keep them"
            )
            found.append(Note("noticed", text))
    return found


def _ends_empty(image: Image.Image) -> bool:
    """Return whether the last lines of an image are of the grey that a decoder makes without data."""
    width, height = image.size
    if height <= _LEAST_LINES:
        return False
    extrema = image.crop((0, height - _LEAST_LINES, width, height)).getextrema()
    empty = (_EMPTY, _EMPTY)
    return extrema == empty or extrema == (empty,) * len(image.getbands())
