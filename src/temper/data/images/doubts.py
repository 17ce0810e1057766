"""Signs in one image or mask that its file is not what was meant, although it can be read."""

import numpy as np
from jaxtyping import Integer, UInt8
from PIL import Image

from temper.data.images.mask_values import IGNORED
from temper.data.images.orientation import turned
from temper.data.images.other_formats import holds_several
from temper.data.images.reading import Raw
from temper.data.remark import Note

_JPEG, _TIFF = b"\xff\xd8", (b"II*\x00", b"MM\x00*")
_CAMERA = (".cr2", ".nef", ".nrw", ".arw", ".sr2", ".dng", ".orf", ".rw2", ".pef", ".srw", ".raf")
"""Endings of files that cameras write; many begin as a TIFF that contains a small preview only."""
_EMPTY, _LEAST_LINES = 128, 8
"""Level that libjpeg gives to pixels without data, and number of such lines at the end that is noticed."""
_ENDS = {3: (1, 0), 4: (1, 0), 5: (2, 3), 6: (3, 2), 7: (3, 2), 8: (2, 3)}
"""EXIF orientation -> where the last and the first stored line are: at the bottom, top, right or left."""
_HEAD = 64
_SEVERAL = Note(
    "left out",
    "files hold several images (animations, pages), of which only the first is used "
    "(problem.inputs: [clip] reads them as frames)",
)
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
    "noticed",
    "masks are JPEGs or other files with losses, which change class numbers along edges; store the drawn "
    "masks as PNG",
)
_PAGES = Note("left out", "masks hold several pages, of which only the first is used")


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


def is_lossy(raw: bytes) -> bool:
    """Return whether a file is stored with losses: a JPEG, an AVIF, or a WebP that is not lossless."""
    webp = raw[8:12] == b"WEBP" and b"VP8L" not in raw[:_HEAD]
    return raw.startswith(_JPEG) or raw[4:12] == b"ftypavif" or webp


def doubt_mask(
    raw: Raw, numbers: Integer[np.ndarray, "tall wide"], shrunk: UInt8[np.ndarray, "height width"]
) -> list[Note]:
    """Return what is doubtful about a mask.

    Args:
        raw: Content of the file.
        numbers: Class numbers of the whole mask, 0..255.
        shrunk: The mask in the size of the unified images.
    """
    found = [_BLURRED] if isinstance(raw, bytes) and is_lossy(raw) else []
    if holds_several(raw):
        found.append(_PAGES)
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
    """Return whether the last stored lines of an image are of the grey that a decoder makes without data.

    A ground of this grey is also at the first lines.
    """
    width, height = image.size
    if min(width, height) <= 2 * _LEAST_LINES:
        return False
    ends = (
        (0, height - _LEAST_LINES, width, height),
        (0, 0, width, _LEAST_LINES),
        (width - _LEAST_LINES, 0, width, height),
        (0, 0, _LEAST_LINES, height),
    )
    last, first = _ENDS.get(turned(image), (0, 1))
    empty = (_EMPTY, _EMPTY)
    found = [image.crop(ends[each]).getextrema() for each in (last, first)]
    return [each in (empty, (empty,) * len(image.getbands())) for each in found] == [True, False]
