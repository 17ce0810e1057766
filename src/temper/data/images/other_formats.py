"""Files that people have among their images and that are not read, or not whole: what they are."""

import io

import numpy as np
from PIL import Image

_VIDEO = "a video: extract its frames, for example with ffmpeg"
_SIGNS = (
    (
        4,
        (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypmsf1"),
        "HEIC: convert it to JPEG, for example with heif-convert",
    ),
    (4, (b"ftypisom", b"ftypmp4", b"ftypqt", b"ftypM4V", b"ftyp3gp"), _VIDEO),
    (0, (b"\x1aE\xdf\xa3",), _VIDEO),
    (0, (b"%PDF",), "PDF: convert its pages to PNG, for example with pdftoppm"),
    (128, (b"DICM",), "DICOM: convert it to PNG of 16 bits, for example with dcm2pnm"),
    (
        0,
        (b"II*\x00", b"MM\x00*"),
        "a TIFF of a kind that is not read: store it as 8 or 16 bits, or as float32 grey",
    ),
    (0, (b"<!DOCTYPE", b"<!doctype", b"<html", b"<HTML"), "a page of HTML, perhaps an error of a download"),
    (0, (b"PK\x03\x04",), "a zip archive: unpack it"),
    (0, (b"version https://git-lfs",), "a pointer of Git LFS: run `git lfs pull`"),
)
"""Offset, bytes that may stand there, and what the file is."""
_SEVERAL = (b"GIF8", b"II*\x00", b"MM\x00*")
"""Beginnings of files that may hold several images, besides WebP and PNG."""
_HEAD = 4096


def explain_format(raw: bytes) -> str:
    """Return what a file is that is not read as an image, after `: `; empty if that is not known."""
    for offset, signs, text in _SIGNS:
        if raw[offset:].startswith(signs):
            return f"; it is {text}"
    return ""


def holds_several(raw: bytes | np.ndarray) -> bool:
    """Return whether a file holds several images: an animation, or the pages of a TIFF."""
    animated = isinstance(raw, bytes) and (raw[8:12] == b"WEBP" or b"acTL" in raw[:_HEAD])
    if isinstance(raw, np.ndarray) or not (raw.startswith(_SEVERAL) or animated):
        return False
    try:
        return bool(getattr(Image.open(io.BytesIO(raw)), "is_animated", False))
    except (OSError, ValueError, SyntaxError):
        return False
