"""Masks, boxes and points are drawn where they lie."""

import numpy as np
import pytest

from temper.data.dataset.contact_sheet import mark
from temper.fields import ABSENT, PRESENT, Field

FIELDS = {
    "boxes": Field("boxes"),
    "labels": Field("sequence", names=("cat", "dog")),
    "mask": Field("map", names=("none", "cat")),
}


def test_an_image_without_anything_in_it_is_unchanged():
    image = np.full((8, 8, 1), 7, np.uint8)
    assert mark(image, {"label": np.array(1)}, {"label": Field(names=("a", "b"))}) is image


@pytest.mark.parametrize("side", [16, 64, 320])
def test_boxes_surround_their_places_in_the_colour_of_their_class(side: int):
    columns = {
        "boxes": np.array([[0.25, 0.25, 0.75, 0.5], [0, 0, 1, 1]]),
        "boxes_valid": np.array([PRESENT, ABSENT]),
        "labels": np.array([1, 0]),
    }
    drawn = mark(np.zeros((side, side, 1), np.uint8), columns, FIELDS)
    assert drawn.shape == (max(side, 64), max(side, 64), 3)
    lines, across = np.nonzero(drawn.any(axis=2))
    size = len(drawn)
    found = [across.min(), lines.min(), across.max() + 1, lines.max() + 1]
    assert found == [size // 4, size // 4, 3 * size // 4, size // 2]
    assert {*map(tuple, drawn[drawn.any(axis=2)].tolist())} == {(60, 150, 230)}
    assert tuple(mark(drawn, columns, FIELDS, "#ff0000")[size // 4, size // 2]) == (255, 0, 0)


def test_points_are_discs_and_masks_are_tinted():
    fields = {"points": Field("points", names=("a", "b"))}
    columns = {"points": np.array([[0.5, 0.25], [0.9, 0.9]]), "points_valid": np.array([PRESENT, ABSENT])}
    drawn = mark(np.zeros((64, 64, 3), np.uint8), columns, fields)
    lines, across = np.nonzero(drawn.any(axis=2))
    assert abs(lines.mean() - 16) < 1 and abs(across.mean() - 32) < 1 and 5 < len(lines) < 30
    mask = np.zeros((64, 64), np.uint8)
    mask[:8] = 1
    tinted = mark(np.zeros((64, 64, 3), np.uint8), {"mask": mask}, FIELDS)
    assert tinted[:8].any(axis=2).all() and not tinted[8:].any()
