"""PASCAL VOC: boxes, splits, and what is wrong in such folders."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from temper.data.source_params import Voc
from temper.data.sources.listing import Listing
from temper.data.sources.voc import list_rows
from tests.project import ROOT

BCCD = ROOT.parent / "shared" / "data" / "bccd"


def write(folder: Path, stem: str, *boxes: tuple[str, list[float]], size: tuple[int, int] = (40, 30)) -> None:
    """Write an image, and its annotation."""
    (folder / "JPEGImages").mkdir(parents=True, exist_ok=True)
    (folder / "Annotations").mkdir(exist_ok=True)
    assert cv2.imwrite(str(folder / "JPEGImages" / f"{stem}.jpg"), np.zeros((size[1], size[0], 3), np.uint8))
    objects = "".join(
        f"<object><name>{label}</name><bndbox>"
        + "".join(
            f"<{side}>{value}</{side}>"
            for side, value in zip(("xmin", "ymin", "xmax", "ymax"), sides, strict=True)
        )
        + "</bndbox></object>"
        for label, sides in boxes
    )
    text = (
        f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{objects}</annotation>"
    )
    (folder / "Annotations" / f"{stem}.xml").write_text(text)


def listed(folder: Path, **settings: int) -> Listing:
    return list_rows(Voc(source="voc", folder=str(folder), **settings), Path())  # type: ignore[arg-type]


def boxes(listing: Listing) -> dict[str, list[dict[str, object]]]:
    return {row.id: json.loads(row.truth or "")["boxes"] for row in listing.rows}


def said(listing: Listing) -> str:
    return "\n".join(map(str, listing.remarks))


def test_folders_are_splits_if_they_name_two(tmp_path: Path):
    for name in ("train", "test"):
        write(tmp_path / name, f"{name}1", ("cat", [1, 2, 20, 30]))
    listing = listed(tmp_path)
    assert [row.split for row in listing.rows] == ["test", "train"]
    assert "guessed: 2 folders are splits, by their names: test/JPEGImages (test), train/" in said(listing)
    (tmp_path / "test").rename(tmp_path / "train2")
    assert {row.split for row in listed(tmp_path).rows} == {None}, (
        "one folder that all images are in says nothing"
    )


def test_boxes_count_from_1_unless_one_begins_at_0(tmp_path: Path):
    write(tmp_path, "a", ("cat", [1, 2, 20, 30]), ("dog", [5, 5, 9, 9]))
    write(tmp_path, "b")
    listing = listed(tmp_path)
    cat, dog = {"label": "cat", "box": [0, 1, 20, 30]}, {"label": "dog", "box": [4, 4, 9, 9]}
    assert boxes(listing) == {"JPEGImages/a.jpg": [cat, dog], "JPEGImages/b.jpg": []}
    assert [row.labels for row in listing.rows] == [("cat", "dog"), ()]
    assert "boxes are taken to count pixels from 1" in said(listing)
    assert len(listing.read) == 2 and listing.find("JPEGImages/a.jpg").is_file()
    write(tmp_path, "c", ("cat", [0, 3, 7, 7]))
    listing = listed(tmp_path)
    assert boxes(listing)["JPEGImages/a.jpg"][1]["box"] == [5, 5, 9, 9]
    assert "boxes are taken to count pixels from 0: some begin at 0" in said(listing)
    assert "from 0" not in said(listed(tmp_path, first_pixel=1))


def test_boxes_that_cannot_be_right_are_corrected_or_left_out_and_said(tmp_path: Path):
    wrong = {
        "exchanged": [20, 2, 10, 30],
        "point": [7, 7, 7, 7],
        "outside": [50, 2, 60, 9],
        "beyond": [30, 20, 45, 30],
        "good": [3, 3, 9, 9],
    }
    write(tmp_path, "a", *wrong.items(), ("good", [3, 3, 9, 9]), ("lost", [float("nan"), 1, 2, 3]))
    listing = listed(tmp_path)
    assert boxes(listing)["JPEGImages/a.jpg"] == [
        {"label": "exchanged", "box": [10, 1, 19, 30]},
        {"label": "beyond", "box": [29, 19, 40, 30]},
        {"label": "good", "box": [2, 2, 9, 9]},
    ]
    for words in (
        "exchanged: JPEGImages/a.jpg (exchanged at 20, 2, 10, 30)",
        "converted: 1 boxes reach beyond their image, and are cut there",
        "left out: 1 boxes are points: no side is longer than a pixel",
        "left out: 1 boxes lie outside their image",
        "left out: 1 boxes are there twice, with the same label",
        "left out: 1 boxes have sides that are no finite numbers",
    ):
        assert words in said(listing), words


def test_lists_of_images_are_splits(tmp_path: Path):
    for stem in "abcde":
        write(tmp_path, stem, ("cat", [1, 2, 20, 30]))
    lists = tmp_path / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    for name, stems in {"trainval": "abcx", "val": "b", "test": "d", "cat_train": "abcd"}.items():
        (lists / f"{name}.txt").write_text("".join(f"{stem} 1\n" for stem in stems) + "\n")
    listing = listed(tmp_path)
    assert [row.split for row in listing.rows] == ["train", "validation", "train", "test", None]
    assert "noticed: 1 images are in no split, and are trained with: JPEGImages/e.jpg" in said(listing)
    assert "left out: 1 images of the lists are not there, or have no annotation: x" in said(listing)
    (lists / "train.txt").write_text("d\n")
    with pytest.raises(ValueError, match=r"d is in the lists of test and of train; .*remove it"):
        listed(tmp_path)


def test_files_without_a_counterpart_are_named(tmp_path: Path):
    for stem in "ab":
        write(tmp_path, stem, ("cat", [1, 2, 20, 30]))
    (tmp_path / "Annotations" / "a.xml").rename(tmp_path / "Annotations" / "x.xml")
    listing = listed(tmp_path)
    assert [row.id for row in listing.rows] == ["JPEGImages/b.jpg"]
    assert "left out: 1 images have no annotation: JPEGImages/a.jpg" in said(listing)
    assert "left out: 1 annotations have no image: Annotations/x.xml" in said(listing)
    assert cv2.imwrite(str(tmp_path / "b.png"), np.zeros((9, 9), np.uint8))
    (tmp_path / "Annotations" / "other.xml").write_text("<catalog/>")
    again = listed(tmp_path)
    assert [row.id for row in again.rows] == ["JPEGImages/b.jpg"] and "other.xml" not in said(again)
    assert "left out: 1 files have the name of another one in another folder: b.png" in said(again)
    (tmp_path / "b.png").unlink()
    (tmp_path / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(ValueError, match=r"none of the 3 annotations has an image of the same name"):
        listed(tmp_path)


SIZE = "<size><width>9</width><height>9</height></size>"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("<annotation><object>", "a.xml is no XML"),
        (
            "<annotation><object><name> </name></object></annotation>",
            "<size/width> is None, which is no number",
        ),
        (
            f"<annotation>{SIZE}<object><name> </name></object></annotation>",
            "has an object without a name",
        ),
        (
            f"<annotation>{SIZE}<object><name>c</name><bndbox><xmin>x</xmin></bndbox></object></annotation>",
            "<bndbox/xmin> is 'x', which is no number",
        ),
    ],
)
def test_an_annotation_that_cannot_be_read_is_named_with_what_is_wrong(
    tmp_path: Path, content: str, words: str
):
    write(tmp_path, "a", ("cat", [1, 2, 20, 30]))
    (tmp_path / "Annotations" / "a.xml").write_text(content)
    with pytest.raises(ValueError, match=words):
        listed(tmp_path)


def test_a_folder_without_annotations_is_refused(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"does not exist; name the folder that holds Annotations and JPEGImages"
    ):
        listed(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"has no .xml files"):
        listed(tmp_path)


@pytest.mark.skipif(not BCCD.is_dir(), reason="the blood smears are not part of the project")
def test_blood_smears_are_read_and_their_two_points_are_named():
    listing = listed(BCCD)
    found = boxes(listing)
    assert len(found) == 364 and sum(map(len, found.values())) == 4886
    assert "left out: 2 boxes are points" in said(listing) and "BloodImage_00338.jpg (RBC" in said(listing)
    assert "count pixels from 1" in said(listing) and "cut there" not in said(listing)
    counts = {
        split: sum(row.split == split for row in listing.rows) for split in ("train", "validation", "test")
    }
    assert sum(counts.values()) == 364 and counts["test"] == 72, counts
