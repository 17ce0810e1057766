"""How places in an image (boxes, points) are counted: in an image of which size, and upright or as stored.

A source writes this beside the places into the truth of a row. prepare compares it with the image, for all
problems of places alike: a box of an image of another size would be silently wrong.
"""

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

from temper.fields import QUARTER_TURN, Frame

PlacesIn = Literal["upright", "stored"]
"""Whether places are counted in the image as it is shown, or as its pixels are stored, before EXIF turns."""
_SIZE, _IN = "size", "counted_in"


def say_counted(size: Sequence[float] | None, places_in: PlacesIn) -> dict[str, Any]:
    """Return what the truth of a row says, beside its places, about how they are counted.

    Args:
        size: Width and height in pixels that the annotation states; None, or 0, if it states none.
        places_in: Value of `ingest.boxes_in`.

    Example:
        >>> say_counted((40, 30), "stored"), say_counted((0, 0), "upright")
        ({'size': [40, 30], 'counted_in': 'stored'}, {})
    """
    known = {_SIZE: [*size]} if size is not None and all(0 < side < float("inf") for side in size) else {}
    return known | ({_IN: places_in} if places_in != "upright" else {})


def is_stored(truth: str | None) -> bool:
    """Return whether the places of a row's truth are counted in the image as its pixels are stored."""
    return json.loads(truth or "{}").get(_IN) == "stored"


def counted_frame(frame: Frame, truth: str | None, orientation: int) -> Frame:
    """Return the frame with the orientation in which the places of a row's truth are counted.

    Args:
        frame: Where the image that a network sees lies in the upright image.
        truth: Truth of the row.
        orientation: EXIF orientation of the image as it is stored; 0 or 1 if it is upright.

    Raises:
        ValueError: If the annotation states another size of the image; names both and the way out.

    Example:
        >>> counted_frame(Frame(30, 40), '{"size": [40, 30], "counted_in": "stored"}', 3).orientation
        3
        >>> counted_frame(Frame(30, 40), '{"boxes": []}', 3).orientation
        1
    """
    said = json.loads(truth or "{}")
    upright = frame.width_px, frame.height_px
    pixels = upright[::-1] if orientation >= QUARTER_TURN else upright
    stored = said.get(_IN) == "stored"
    size, other = (pixels, upright) if stored else (upright, pixels)
    if _SIZE in said and tuple(said[_SIZE]) != size:
        where = "as its pixels are stored" if stored else "as it is shown"
        text = f"its annotation is for an image of {_shown(said[_SIZE])} px, but it has {_shown(size)} px"
        if tuple(said[_SIZE]) == other:
            way = "upright" if stored else "stored"
            raise ValueError(f"{text} {where}, since EXIF turns it; set ingest.boxes_in: {way}")
        raise ValueError(
            f"{text}, so its boxes or points would be in wrong places; use the image that was annotated, or "
            "correct width and height in the annotation if only they are wrong"
        )
    return replace(frame, orientation=max(1, orientation) if stored else 1)


def _shown(size: Sequence[float]) -> str:
    return "x".join(f"{side:g}" for side in size)
