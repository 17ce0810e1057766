"""How places are counted: what sources write of it, and what prepare makes of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from temper.data.counted import PlacesIn, counted_frame, say_counted
from temper.data.source_params import Table, Voc
from temper.data.sources import LISTED
from temper.fields import Frame
from tests.unit.data.annotated import image, truths

SHOWN, STORED = (40, 30), (30, 40)


def frame(size: tuple[float, float], places_in: PlacesIn, orientation: int) -> Frame:
    return counted_frame(Frame(30, 40), json.dumps(say_counted(size, places_in)), orientation)


@pytest.mark.parametrize(
    ("size", "places_in", "orientation", "expected"),
    [
        (SHOWN, "upright", 0, 1),
        (SHOWN, "upright", 6, 1),
        (SHOWN, "stored", 3, 3),
        (STORED, "stored", 6, 6),
        (STORED, "stored", 5, 5),
        ((0, 0), "stored", 8, 8),
        ((40.0, 30.0), "upright", 1, 1),
        ((float("inf"), 30), "upright", 1, 1),
    ],
)
def test_places_turn_with_the_image_if_stored_pixels_are_counted(
    size: tuple[float, float], places_in: PlacesIn, orientation: int, expected: int
):
    assert frame(size, places_in, orientation).orientation == expected


@pytest.mark.parametrize(
    ("size", "places_in", "orientation", "words"),
    [
        (
            STORED,
            "upright",
            6,
            r"for an image of 30x40 px, but it has 40x30 px as it is .*ingest.boxes_in: stored",
        ),
        (SHOWN, "stored", 6, r"40x30 px, but it has 30x40 px as its pixels are stored, .*boxes_in: upright"),
        (STORED, "upright", 3, r"30x40 px, but it has 40x30 px, so .*use the image that was annotated"),
        ((80, 60), "upright", 6, r"80x60 px, but it has 40x30 px, so its boxes or points would be in wrong"),
    ],
)
def test_another_size_is_refused_with_both_and_the_way_out(
    size: tuple[float, float], places_in: PlacesIn, orientation: int, words: str
):
    with pytest.raises(ValueError, match=words):
        frame(size, places_in, orientation)


@pytest.mark.parametrize("settings", [{}, {"boxes_in": "stored"}])
def test_sources_say_how_places_are_counted(tmp_path: Path, settings: dict[str, Any]):
    said = {"counted_in": "stored"} if settings else {}
    image(tmp_path / "a.png")
    box = '"[{""label"": ""cat"", ""box"": [1, 2, 9, 9]}]"'
    (tmp_path / "t.csv").write_text(f"path,boxes,x,y\na.png,{box},3,4\n")
    for truth in ({"boxes": "boxes"}, {"points": {"nose": ("x", "y")}}):
        table = Table(source="table", file="t.csv", **truth, **settings)  # type: ignore[arg-type]
        (found,) = truths(LISTED["table"](table, tmp_path)).values()
        assert {key: value for key, value in found.items() if key not in truth} == said
    sides = "".join(f"<{side}>9</{side}>" for side in ("xmax", "ymax"))
    (tmp_path / "a.xml").write_text(
        "<annotation><size><width>40</width><height>30</height></size><object><name>cat</name><bndbox><xmin>1"
        f"</xmin><ymin>2</ymin>{sides}</bndbox></object></annotation>"
    )
    (found,) = truths(LISTED["voc"](Voc(source="voc", folder=str(tmp_path), **settings), Path())).values()
    assert found == {"boxes": [{"label": "cat", "box": [0, 1, 9, 9]}], "size": [40, 30]} | said
