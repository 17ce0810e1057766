"""What becomes of objects and thin structures when images are made smaller."""

import json
from collections.abc import Mapping, Sequence
from statistics import median

import numpy as np

from temper.problem import Row

LEAST_PX = 8
"""Sides of boxes below which a network finds few objects: two cells of its grid."""
_COARSE = 4
"""Number of pixels of an image, along a side, that become one, from which on thin structures are lost."""
_WAY = (
    "the size was chosen by time alone, so raise prepare.height_px and prepare.width_px (or MINUTES) if they "
    "matter"
)


def measure_objects(rows: Sequence[Row], sizes: Sequence[tuple[int, int]]) -> dict[str, float]:
    """Return the median side of the boxes of each class as a share of the image's side; empty without boxes.

    Args:
        rows: All rows.
        sizes: Heights and widths of a sample of the images, px; their median stands for all.
    """
    sides: dict[str, list[float]] = {}
    for row in rows:
        for each in json.loads(row.truth or "{}").get("boxes", ()):
            left, top, right, bottom = each["box"]
            sides.setdefault(each["label"], []).append(max(0.0, (right - left) * (bottom - top)) ** 0.5)
    image = np.sqrt(median(height * width for height, width in sizes))
    return {name: float(median(found) / image) for name, found in sides.items()}


def explain_size(
    objects: Mapping[str, float], *, maps: bool, before: tuple[int, int], after: tuple[int, int]
) -> list[str]:
    """Return what is lost in images that are made smaller, as lines for the user.

    Args:
        objects: Result of `measure_objects`.
        maps: Whether the answer is a map.
        before: Height and width of the images, px.
        after: Height and width that a network sees, px.

    Example:
        >>> explain_size({"cell": 0.2}, maps=False, before=(480, 640), after=(96, 128))
        []
    """
    at = f"{after[1]}x{after[0]} px"
    side = float(np.sqrt(after[0] * after[1]))
    times = max(before[0] / after[0], before[1] / after[1])
    small = {name: share * side for name, share in objects.items() if share * side < LEAST_PX}
    lines = []
    if small and times > 1:
        listed = ", ".join(
            f"{name} {px:.0f} px" for name, px in sorted(small.items(), key=lambda each: each[1])
        )
        lines.append(
            f"objects are small at {at} (median sides: {listed}), and below {LEAST_PX} px few are found; "
            f"{_WAY}"
        )
    if maps and times >= _COARSE:
        lines.append(
            f"each pixel of a mask at {at} stands for {times:.0f} pixels of an image along a side, so "
            f"thinner structures are lost; {_WAY}"
        )
    return lines
