"""YOLO's text files: boxes, points and outlines, splits, and what is wrong in such folders."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from temper.data.source_params import Yolo
from temper.data.sources.listing import Listing
from temper.data.sources.yolo import list_rows
from tests.unit.data.annotated import boxes, image, said, truths

CAT = "0 0.5 0.5 0.5 0.2"
"""A box from (10, 12) to (30, 18) in an image of 40x30 px."""
BOX = {"label": "cat", "box": [10, 12, 30, 18]}


def write(root: Path, texts: dict[str, str | bytes], *, yaml: str | None = "names: [cat, dog]") -> None:
    """Write an image and its text file for each name below `images` and `labels`; None of it for no text."""
    if yaml is not None:
        root.mkdir(parents=True, exist_ok=True)
        (root / "data.yaml").write_text(yaml)
    for number, (name, text) in enumerate(texts.items()):
        image(root / "images" / f"{name}.jpg", seed=number)
        path = root / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())


def listed(root: Path, **settings: Any) -> Listing:
    return list_rows(Yolo(source="yolo", folder=str(root), **settings), Path())


def nearly(listing: Listing) -> dict[str, list[dict[str, Any]]]:
    """Return the boxes of each row, their sides rounded."""
    return {
        name: [box | {"box": [round(side, 4) for side in box["box"]]} for box in each]
        for name, each in boxes(listing).items()
    }


def test_boxes_are_shares_of_the_image_and_become_pixels(tmp_path: Path):
    write(tmp_path, {"a": f"{CAT}\n1 0.25 0.5 0.5 1\n", "b": "", "c": "\ufeff1.0\t0.5\t0.5  1 1\r\n\r\n"})
    image(tmp_path / "images" / "d.jpg")
    (tmp_path / "labels.cache").write_bytes(b"\x93NUMPY")
    listing = listed(tmp_path)
    assert nearly(listing) == {
        "images/a.jpg": [BOX, {"label": "dog", "box": [0, 0, 20, 30]}],
        "images/b.jpg": [],
        "images/c.jpg": [{"label": "dog", "box": [0, 0, 40, 30]}],
        "images/d.jpg": [],
    }
    assert [row.labels for row in listing.rows] == [("cat", "dog"), (), ("dog",), ()]
    assert {path.name for path in listing.read} == {"data.yaml", "a.txt", "b.txt", "c.txt"}
    assert "guessed: 1 images have no text file, and are taken to show no object" in said(listing)
    assert "noticed: 2 images show no object: images/b.jpg, images/d.jpg" in said(listing)
    assert "cache" not in said(listing) and "cut" not in said(listing)


@pytest.mark.parametrize(
    "yaml",
    [
        "names: {0: cat, '1': dog}\ntrain: images/train\nval: [images/val]\n",
        "names: [cat, dog]\npath: .\ntrain: images/train/\nval: ./images/val\nnc: 2",
        "names: [cat, dog]\ntrain: ../images/train\nval: ../images/val\n",
        "names: [cat, dog]\npath: ../datasets/mine\ntrain: images/train\nval: images/val\n",
        "names: [cat, dog]\npath: images\ntrain: train\nval: val\n",
        "names: [cat, dog]\ntrain: train.txt\nval: images/val\n",
        "names: [cat, dog]\n",
    ],
)
def test_splits_are_folders_or_lists_of_images(tmp_path: Path, yaml: str):
    write(tmp_path, {"train/a": CAT, "train/b": CAT, "val/a": CAT}, yaml=yaml)
    if "train.txt" in yaml:
        (tmp_path / "train.txt").write_text("./images/train/a.jpg\n/home/me/images/train/b.jpg\n")
    listing = listed(tmp_path)
    assert {row.id: row.split for row in listing.rows} == {
        "images/train/a.jpg": "train",
        "images/train/b.jpg": "train",
        "images/val/a.jpg": "validation",
    }
    assert ("guessed: 2 folders are splits, by their names" in said(listing)) == ("train" not in yaml)
    assert "lead nowhere" not in said(listing)


def test_folders_of_splits_that_hold_images_and_labels_are_read(tmp_path: Path):
    for split in ("train", "valid"):
        write(tmp_path / split, {"a": CAT}, yaml=None)
    (tmp_path / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\nnc: 3\nnames: [cat, dog]\n"
    )
    image(tmp_path / "extra" / "b.jpg")
    listing = listed(tmp_path)
    assert {row.id: row.split for row in listing.rows} == {
        "train/images/a.jpg": "train",
        "valid/images/a.jpg": "validation",
    }
    for words in (
        "left out: 1 paths of splits lead nowhere: test: ../test/images",
        "noticed: data.yaml says nc: 3, but names 2 classes; the names count",
        "noticed: 1 classes of the names are never used, and are no classes: dog",
        "left out: 1 images are in no split of data.yaml: extra/b.jpg",
    ):
        assert words in said(listing), said(listing)


@pytest.mark.parametrize(
    ("yaml", "words"),
    [
        ("names: [cat\n", r"data.yaml is no YAML"),
        ("- cat\n", r"data.yaml is no mapping; write names"),
        ("names: cat\n", r"names is 'cat'; write a list"),
        ("names: [cat, ~]\n", r"names has 1: None; write a number and a name"),
        ("names: {a: cat}\n", r"names has 'a': 'cat'; write a number and a name"),
        ("names: [cat]\ntrain: 3\n", r"train is 3; write a path, or a list of paths"),
        (
            "names: [cat]\ntrain: gone\n",
            r"leads to no image for training \(train: gone does not exist\); write",
        ),
        ("names: [cat]\ntrain: images\nval: images\n", r"images/a.jpg is in the splits train and validation"),
        (
            "names: [cat]\ntrain: ../other\n",
            r"is outside ingest.folder; set ingest.folder to a folder that holds",
        ),
        ("names: [cat]\nkpt_shape: 17\n", r"kpt_shape is 17; write the number of points, and 2 or 3"),
    ],
)
def test_a_data_yaml_that_cannot_be_right_is_refused(tmp_path: Path, yaml: str, words: str):
    (tmp_path / "other").mkdir()
    write(tmp_path / "data", {"a": CAT}, yaml=yaml)
    with pytest.raises(ValueError, match=words):
        listed(tmp_path / "data")


def test_names_come_from_other_files_or_are_numbers(tmp_path: Path):
    write(tmp_path, {"a": CAT, "b": "1 0.5 0.5 0.1 0.1"}, yaml=None)
    listing = listed(tmp_path)
    assert [row.labels for row in listing.rows] == [("0",), ("1",)]
    assert "guessed: classes are called by their numbers" in said(listing)
    (tmp_path / "classes.txt").write_text("cat\r\ndog\r\n\r\n")
    listing = listed(tmp_path)
    assert [row.labels for row in listing.rows] == [("cat",), ("dog",)] and "numbers" not in said(listing)
    for name in ("one.yaml", "two.yaml"):
        (tmp_path / name).write_text("names: [a, b]")
    with pytest.raises(ValueError, match=r"has one.yaml and two.yaml; keep one of them"):
        listed(tmp_path)


def test_lists_of_images_are_splits_without_data_yaml(tmp_path: Path):
    write(tmp_path, {"a": CAT, "b": CAT}, yaml=None)
    (tmp_path / "obj.names").write_text("cat\n")
    (tmp_path / "train.txt").write_text("data/images/a.jpg\n")
    (tmp_path / "test.txt").write_text("images/b.jpg\n")
    listing = listed(tmp_path)
    assert {row.id: row.split for row in listing.rows} == {"images/a.jpg": "train", "images/b.jpg": "test"}
    assert "found by the end of their path" in said(listing)


def test_what_is_odd_about_rows_is_named(tmp_path: Path):
    text = "\n".join(
        [
            "7 0.5 0.5 0.1 0.1",
            "-1 0.5 0.5 0.1 0.1",
            "0.5 0.5 0.5 0.1 0.1",
            "0 nan 0.5 0.1 0.1",
            "0 0.95 0.5 0.2 0.2",
            "0 1.5 0.5 0.2 0.2",
            "0 0.5 0.5 -0.5 0.2",
            CAT,
            "2 0.5 0.5 0.1 0.1",
            "0 0.5 0.5 0 0",
        ]
    )
    write(tmp_path, {"a": text}, yaml="names: [cat, dog, cat]")
    listing = listed(tmp_path)
    assert len(boxes(listing)["images/a.jpg"]) == 3
    for words in (
        "left out: 3 rows have a class number without a name; names has 0 to 2: labels/a.txt (class 7)",
        "left out: 1 boxes have sides that are no finite numbers",
        "converted: 1 boxes reach beyond their image, and are cut there",
        "left out: 1 boxes lie outside their image: images/a.jpg (cat at 1.5, 0.5, 0.2, 0.2)",
        "converted: 1 boxes have left and right, or top and bottom, exchanged",
        "left out: 1 boxes are there twice, with the same label",
        "left out: 1 boxes are points",
        "converted: 1 classes have several numbers, and are one class each: cat (0, 2)",
        "noticed: 1 classes of the names are never used, and are no classes: dog",
    ):
        assert words in said(listing), said(listing)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("0,0.5,0.5,0.1,0.1", r"a.txt, line 1 .* separate numbers by blanks, not by commas"),
        (f"{CAT}\ncat 0.5 0.5 0.1 0.1", r"a.txt, line 2 is 'cat 0.5.*a row is numbers only"),
        ("0 0.5 0.5 0.1", r"line 1 has 4 numbers, but a row is class, x, y, width and height \(5 numbers\)"),
        ("0 0.5 0.5 0.1 0.1 0.9", r"line 1 has 6 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9 0.9 0.1", r"line 1 has 8 numbers.*rows with points need kpt_shape"),
        ("0 20 12 10 8\n0 21 14 9 9", r"2 of 2 rows lie beyond .*labels/a.txt, line 1: .* look like pixels"),
        (b"\xff\xfe0", r"a.txt is not UTF-8; save it as UTF-8"),
    ],
)
def test_rows_that_cannot_be_read_are_named_with_what_is_wrong(tmp_path: Path, text: str | bytes, words: str):
    write(tmp_path, {"a": text})
    with pytest.raises(ValueError, match=words):
        listed(tmp_path)


def test_files_without_a_counterpart_are_named(tmp_path: Path):
    write(tmp_path, {"a": CAT})
    (tmp_path / "labels" / "gone.txt").write_text(CAT)
    (tmp_path / "labels" / "classes.txt").write_text("cat\n")
    (tmp_path / "notes.txt").write_text("words")
    image(tmp_path / "images" / "a.png")
    for name in ("new/1.jpg", "new/2.jpg"):
        image(tmp_path / "images" / name)
    listing = listed(tmp_path)
    assert {row.id for row in listing.rows} == {"images/a.jpg", "images/a.png"}
    for words in (
        "left out: 2 images have no text file, as all images of their folder; an empty file says",
        "left out: 1 text files have no image: labels/gone.txt",
        "noticed: 1 images share a text file with another image of their name: images/a.png",
    ):
        assert words in said(listing), said(listing)
    (tmp_path / "labels" / "a.txt").unlink()
    with pytest.raises(ValueError, match=r"none of its 4 images can be used"):
        listed(tmp_path)
    with pytest.raises(ValueError, match=r"does not exist; name the folder that holds data.yaml"):
        listed(tmp_path / "gone")


def test_a_text_file_may_lie_beside_its_image(tmp_path: Path):
    image(tmp_path / "obj" / "a.jpg")
    (tmp_path / "obj" / "a.txt").write_text(CAT)
    (tmp_path / "classes.txt").write_text("cat")
    assert nearly(listed(tmp_path)) == {"obj/a.jpg": [BOX]}


def test_sizes_are_those_of_the_image_as_places_are_counted(tmp_path: Path):
    write(tmp_path, {"a": CAT, "b": CAT})
    image(tmp_path / "images" / "a.jpg", orientation=6)
    (tmp_path / "images" / "b.jpg").write_bytes(b"\xff\xd8\xff")
    listing = listed(tmp_path)
    assert nearly(listing)["images/a.jpg"] == [{"label": "cat", "box": [7.5, 16, 22.5, 24]}]
    assert "noticed: 1 images have no size that can be read; prepare says why: images/b.jpg" in said(listing)
    listing = listed(tmp_path, boxes_in="stored")
    assert nearly(listing)["images/a.jpg"] == [BOX]
    assert truths(listing)["images/a.jpg"]["counted_in"] == "stored"


def test_outlines_have_boxes_and_can_be_drawn(tmp_path: Path):
    square = "1 0.25 0.2 0.5 0.2 0.5 0.6 0.25 0.6"
    write(tmp_path, {"a": f"{square}\n{CAT}", "b": f"{square} nan 0.5"}, yaml="names: [cat, dog]")
    listing = listed(tmp_path)
    assert nearly(listing)["images/a.jpg"] == [{"label": "dog", "box": [10, 6, 20, 18]}, BOX]
    assert "boxes have sides that are no finite numbers: images/b.jpg" in said(listing)
    listing = listed(tmp_path, truth="masks")
    assert listing.draw is not None
    mask = np.asarray(Image.open(io.BytesIO(listing.draw("images/a.jpg.png"))))
    expected = np.zeros((30, 40), np.uint8)
    expected[12:18, 10:30] = 255
    expected[6:18, 10:20] = 1
    np.testing.assert_array_equal(mask, expected)
    assert "masks with the classes [background, dog]" in said(listing)


def test_points_are_those_of_the_only_object_that_has_any(tmp_path: Path):
    three = "0 0.5 0.5 0.5 0.2 0.25 0.5 2 0.5 0.1 0"
    write(
        tmp_path,
        {"a": three, "b": f"{three}\n{CAT}", "c": f"{three}\n{three}", "d": CAT},
        yaml="names: [cat]\nkpt_shape: [2, 3]\nflip_idx: [1, 0]\n",
    )
    listing = listed(tmp_path, truth="points")
    assert {name: truth["points"] for name, truth in truths(listing).items()} == {
        "images/a.jpg": {"0": [10, 15], "1": None},
        "images/b.jpg": {"0": [10, 15], "1": None},
    }
    assert "has no kpt_names; set problem.mirrored to {'0': '1'} (flip_idx)" in said(listing)
    assert nearly(listed(tmp_path))["images/a.jpg"] == [BOX]
    (tmp_path / "data.yaml").write_text("names: [cat]\nkpt_shape: [3, 2]\nkpt_names: {0: [a, b, c]}\n")
    for name in "abcd":
        (tmp_path / "labels" / f"{name}.txt").write_text("0 0.5 0.5 0.5 0.2 0.25 0.5 0.5 0.1 0 0")
    listing = listed(tmp_path, truth="points")
    assert truths(listing)["images/d.jpg"]["points"] == {"a": [10, 15], "b": [20, 3], "c": None}
    (tmp_path / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.2 0.25 0.5")
    with pytest.raises(
        ValueError, match=r"has 7 numbers, but kpt_shape: \[3, 2\] makes them 11, or 5 without"
    ):
        listed(tmp_path, truth="points")
    write(tmp_path / "x", {"a": CAT})
    with pytest.raises(ValueError, match=r"none of its 1 images can be used .*points need kpt_shape"):
        listed(tmp_path / "x", truth="points")
