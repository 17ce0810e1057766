"""COCO's JSON: boxes, points and masks, splits, and what is wrong in such files."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as tool

from temper.data.images.outlines import Runs, paint, read_counts
from temper.data.source_params import Coco
from temper.data.sources.coco import list_rows
from temper.data.sources.listing import Listing
from tests.unit.data.annotated import HIGH, WIDE, boxes, coco, image, of, said, truths

NAMES = {1: "a.jpg", 2: "b.jpg"}


def write(root: Path, content: Any, name: str = "instances.json", *, images: str = "images") -> None:
    """Write a file of annotations, and its images into a folder."""
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (root / name).write_text(text)
    if isinstance(content, dict):
        for number, each in enumerate(content["images"]):
            image(root / images / each["file_name"], seed=number)


def listed(root: Path, **settings: Any) -> Listing:
    return list_rows(Coco(source="coco", folder=str(root), **settings), Path())


def test_boxes_are_left_top_width_and_height(tmp_path: Path):
    write(
        tmp_path,
        coco(
            {1: "a.jpg", 2: "b.jpg", 3: "c.jpg"},
            of(1, 0, 1.5, 2, 10, 20.25),
            of(1, 7, 0, 0, 40, 30, iscrowd=1),
            of(2, 7, 3, 4, 5, 6),
        ),
    )
    listing = listed(tmp_path)
    cat = {"label": "cat", "box": [1.5, 2, 11.5, 22.25]}
    assert boxes(listing) == {
        "images/a.jpg": [cat, {"label": "dog", "box": [0, 0, 40, 30], "crowd": True}],
        "images/b.jpg": [{"label": "dog", "box": [3, 4, 8, 10]}],
        "images/c.jpg": [],
    }
    assert truths(listing)["images/a.jpg"]["size"] == [WIDE, HIGH]
    assert [row.labels for row in listing.rows] == [("cat", "dog"), ("dog",), ()]
    assert [path.name for path in listing.read] == ["instances.json"]
    assert "noticed: 1 boxes are marked as crowds, and are neither right nor wrong" in said(listing)
    assert "noticed: 1 images show no object: images/c.jpg" in said(listing)
    assert "never used" not in said(listing) and "elsewhere" not in said(listing)


@pytest.mark.parametrize(
    ("files", "images"),
    [
        (("annotations/instances_train2017.json", "annotations/instances_val2017.json"), "{split}2017"),
        (
            ("annotations/instances_train2017.json", "annotations/instances_val2017.json"),
            "images/{split}2017",
        ),
        (("train/_annotations.coco.json", "val/_annotations.coco.json"), "{split}"),
        (("train.json", "val.json"), "images/{split}"),
    ],
)
def test_files_of_splits_are_found_with_their_images(tmp_path: Path, files: tuple[str, ...], images: str):
    for split, file in zip(("train", "val"), files, strict=True):
        write(tmp_path, coco(NAMES, of(1, 0, 1, 2, 9, 9)), file, images=images.format(split=split))
    listing = listed(tmp_path)
    assert [row.split for row in listing.rows] == ["train", "train", "validation", "validation"]
    assert "guessed: 2 files of annotations are read" in said(listing) and "(validation)" in said(listing)
    assert "another folder" not in said(listing) and len({row.id for row in listing.rows}) == 4
    one = listed(tmp_path, annotations={"test": files[0], "dev": files[1]})
    assert {row.split for row in one.rows} == {"test", "validation"} and "are read" not in said(one)
    with pytest.raises(ValueError, match=r"names the split 'extra'; write train"):
        listed(tmp_path, annotations={"extra": files[0]})
    with pytest.raises(ValueError, match=r"gone.json does not exist; name a .json file"):
        listed(tmp_path, annotations="gone.json")


def test_cocos_own_folder_has_files_of_points_and_captions_beside_those_of_boxes(tmp_path: Path):
    write(tmp_path, coco(NAMES, of(1, 0, 1, 2, 9, 9)), "annotations/instances_train2017.json")
    person = coco(NAMES, of(1, 0, 1, 2, 9, 9, keypoints=[3, 4, 2]))
    person["categories"][0]["keypoints"] = ["nose"]
    write(tmp_path, person, "annotations/person_keypoints_train2017.json")
    write(tmp_path, coco(NAMES, {"image_id": 1, "caption": "a cat"}), "annotations/captions_train2017.json")
    (tmp_path / "package.json").write_text("[]")
    listing = listed(tmp_path)
    assert len(listing.rows) == 2
    assert "left out: 1 JSON files hold captions: annotations/captions_train2017.json" in said(listing)
    assert "left out: 2 JSON files are not in COCO's form, or have other annotations" in said(listing)
    assert truths(listed(tmp_path, truth="points")) == {
        "images/a.jpg": {"points": {"nose": [3, 4]}, "size": [WIDE, HIGH]}
    }
    with pytest.raises(ValueError, match=r"captions_train2017.json holds captions, .*ingest\.text"):
        listed(tmp_path, annotations="annotations/captions_train2017.json")
    for path in (tmp_path / "annotations").glob("[ip]*.json"):
        path.unlink()
    with pytest.raises(ValueError, match=r"holds captions, and no kind of problem learns texts"):
        listed(tmp_path)


def test_names_of_images_are_matched_and_what_is_missing_is_named(tmp_path: Path):
    names = {1: "C:\\data\\a.jpg", 2: "old/b.jpg", 3: "gone.jpg", 4: "c.jpg"}
    content = coco(names, of(1, 0, 1, 2, 9, 9))
    write(tmp_path, json.dumps(content))
    for name in ("deep/a.jpg", "one/c.jpg", "two/c.jpg", "one/b.jpg", "old/b.jpg", "new.jpg"):
        image(tmp_path / name)
    listing = listed(tmp_path)
    assert {row.id for row in listing.rows} == {"deep/a.jpg", "old/b.jpg"}
    for words in (
        "images are found by the end of their path, in another folder: C:\\data\\a.jpg is deep/a.jpg",
        "left out: 1 names of images fit several files; write their paths: c.jpg: one/c.jpg or two/c.jpg",
        "left out: 1 images of the annotations are not there: gone.jpg",
        "left out: 4 images have no entry in the annotations: new.jpg, one/b.jpg, one/c.jpg, ...",
    ):
        assert words in said(listing), said(listing)
    content["images"] = content["images"][2:3]
    write(tmp_path, json.dumps(content))
    with pytest.raises(ValueError, match=r"none of the 1 images .* is there; the first one is gone.jpg"):
        listed(tmp_path)


def test_what_is_odd_about_categories_is_named(tmp_path: Path):
    categories = {0: "things", 1: "cat", 5: "dog", 9: "cat"}
    write(
        tmp_path,
        coco(NAMES, of(1, 1, 1, 2, 9, 9), of(1, 9, 8, 2, 9, 9), of(2, 44, 1, 2, 9, 9), categories=categories),
    )
    listing = listed(tmp_path)
    assert [row.labels for row in listing.rows] == [("cat",), ()]
    for words in (
        "converted: 1 categories have several ids, and are one class each: cat (1, 9)",
        "noticed: 2 categories are never used, and are no classes: things, dog",
        "left out: 1 annotations have an unknown category: instances.json: annotation 3 (category 44)",
    ):
        assert words in said(listing), said(listing)
    content = coco(NAMES, of(1, 1, 1, 2, 9, 9), categories=categories)
    content["categories"].append({"id": 5, "name": "wolf"})
    write(tmp_path, content)
    with pytest.raises(
        ValueError, match=r"the category id 5 is called 'dog' and 'wolf'; give each its own id"
    ):
        listed(tmp_path)
    content["categories"] = [{"id": 5}]
    write(tmp_path, content)
    with pytest.raises(ValueError, match=r"the category \{\"id\": 5\} has no id or no name"):
        listed(tmp_path)
    del content["categories"]
    write(tmp_path, content)
    listing = listed(tmp_path)
    assert listing.rows[0].labels == ("1",) and "name no categories" in said(listing)


def test_what_is_odd_about_images_is_named(tmp_path: Path):
    content = coco({1: "a.jpg", 2: "b.jpg"}, of(1, 0, 1, 2, 9, 9), of(3, 7, 5, 5, 9, 9), of(8, 0, 1, 1, 5, 5))
    write(tmp_path, content)
    content["images"] += [
        {"id": "1", "file_name": "a.jpg"},
        {"id": 3, "file_name": "a.jpg"},
        {"file_name": "b.jpg"},
    ]
    write(tmp_path, json.dumps(content))
    listing = listed(tmp_path)
    assert [box["label"] for box in boxes(listing)["images/a.jpg"]] == ["cat", "dog"]
    for words in (
        "left out: 1 images are listed twice with the same id: instances.json: a.jpg",
        "converted: 1 images are listed twice, and have the objects of both: images/a.jpg",
        "left out: 1 images have no id or no file_name in their file: instances.json: image number 5",
        "1 annotations are of images that are not in their file: instances.json: annotation 3 (image 8)",
    ):
        assert words in said(listing), said(listing)
    content["images"].append({"id": 2, "file_name": "a.jpg"})
    write(tmp_path, json.dumps(content))
    with pytest.raises(ValueError, match=r"the image id 2 is that of b.jpg and of a.jpg, .*its own id"):
        listed(tmp_path)


def test_an_image_in_two_splits_is_refused(tmp_path: Path):
    for split in ("train", "val"):
        write(tmp_path, coco(NAMES, of(1, 0, 1, 2, 9, 9)), f"{split}.json")
    with pytest.raises(ValueError, match=r"images/a.jpg is in train.json and in val.json; .*remove it"):
        listed(tmp_path)
    assert len(listed(tmp_path, annotations="val.json").rows) == 2


def test_boxes_that_cannot_be_right_are_corrected_or_left_out_and_said(tmp_path: Path):
    wrong: list[Any] = [
        [1, 2, 9],
        None,
        "1 2 3 4",
        [1, 2, float("nan"), 9],
        [20, 20, -5, 5],
        [3, 3, 0, 9],
        [30, 20, 20, 5],
        [90, 2, 5, 5],
        [5, 6, 7, 8],
        [5, 6, 7, 8],
        [1, 2, 10**400, 3],
    ]
    write(tmp_path, coco(NAMES, of(1, 0), *(of(1, 0, bbox=each) for each in wrong)))
    listing = listed(tmp_path)
    assert [box["box"] for box in boxes(listing)["images/a.jpg"]] == [
        [15, 20, 20, 25],
        [30, 20, 40, 25],
        [5, 6, 12, 14],
    ]
    for words in (
        "4 boxes are missing, or are not four numbers: instances.json: annotation 1, images/a.jpg (cat)",
        "left out: 2 boxes have sides that are no finite numbers",
        "converted: 1 boxes have left and right, or top and bottom, exchanged",
        "left out: 1 boxes are lines",
        "converted: 1 boxes reach beyond their image, and are cut there",
        "left out: 1 boxes lie outside their image",
        "left out: 1 boxes are there twice, with the same label",
    ):
        assert words in said(listing), said(listing)


def test_boxes_in_another_form_are_noticed(tmp_path: Path):
    write(tmp_path, coco(NAMES, of(1, 0, 0.1, 0.2, 0.5, 0.5), of(2, 0, 0.3, 0.2, 0.5, 0.5)))
    with pytest.raises(ValueError, match=r"within 0 and 1, so they are shares of the image; export them in"):
        listed(tmp_path)
    write(tmp_path, coco(NAMES, *(of(1, 0, 2 + each, 3, 20 + each, 25) for each in range(8))))
    assert "as if they were left, top, right and bottom" in said(listed(tmp_path))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [', r"x.json is no JSON .*it may be cut off: copy or export it again"),
        ("[" * 100_000, r"x.json is no JSON"),
        ("\x00", r"x.json is no JSON"),
        ("[]", r"no annotations in COCO's form \(but x.json, in another form\)"),
        ('{"images": {}, "annotations": []}', r"no annotations in COCO's form"),
        ('{"images": [1], "annotations": []}', r"no annotations in COCO's form"),
    ],
)
def test_files_that_cannot_be_read_are_named_with_the_way_out(tmp_path: Path, content: str, words: str):
    write(tmp_path, content, "x.json")
    with pytest.raises(ValueError, match=words):
        listed(tmp_path)
    with pytest.raises(ValueError, match=r"x.json is (no JSON|not of COCO's form; .*export the annotations)"):
        listed(tmp_path, annotations="x.json")


def test_a_folder_without_annotations_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"does not exist; name the folder that holds the images"):
        listed(tmp_path / "gone")
    with pytest.raises(ValueError, match=r"has no annotations in COCO's form: a .json file"):
        listed(tmp_path)


def test_points_are_those_of_the_only_object_that_has_any(tmp_path: Path):
    names = {number: f"{number}.jpg" for number in range(1, 6)}
    content = coco(
        names,
        of(1, 0, keypoints=[3, 4, 2, 0, 0, 0]),
        of(1, 0, keypoints=[0, 0, 0, 0, 0, 0]),
        of(2, 0, keypoints=[3, 4, 1, 5.5, 6, 2]),
        of(2, 0, keypoints=[3, 4, 1, 5, 6, 2], iscrowd=1),
        of(3, 0, keypoints=[3, 4, 1, 5, 6, 2]),
        of(3, 0, keypoints=[9, 9, 1, 5, 6, 2]),
        of(4, 7, 1, 2, 3, 4),
        of(5, 0, keypoints=[9, 9]),
    )
    content["categories"][0]["keypoints"] = ["nose", "tail"]
    write(tmp_path, content)
    listing = listed(tmp_path, truth="points")
    assert {name: truth["points"] for name, truth in truths(listing).items()} == {
        "images/1.jpg": {"nose": [3, 4], "tail": None},
        "images/2.jpg": {"nose": [3, 4], "tail": [5.5, 6]},
    }
    for words in (
        "left out: 1 images show several objects with points",
        "left out: 2 images show no object with known points: images/4.jpg, images/5.jpg",
        "left out: 1 lists of points are not three numbers for each point: images/5.jpg (cat)",
    ):
        assert words in said(listing), said(listing)
    del content["categories"][0]["keypoints"]
    write(tmp_path, content)
    listing = listed(tmp_path, truth="points")
    assert truths(listing)["images/2.jpg"]["points"] == {"0": [3, 4], "1": [5.5, 6]}
    assert "called by their numbers; set problem.mirrored" in said(listing)
    write(tmp_path, coco(NAMES, of(1, 0, 1, 2, 9, 9)))
    with pytest.raises(ValueError, match=r"can be used with ingest.truth = points; set it to another truth"):
        listed(tmp_path, truth="points")


def mask(listing: Listing, name: str) -> np.ndarray:
    assert listing.draw is not None and f"{name}.png" in listing.drawn
    return np.asarray(Image.open(io.BytesIO(listing.draw(f"{name}.png"))))


def square(left: float, top: float, side: float) -> list[float]:
    return [left, top, left + side, top, left + side, top + side, left, top + side]


def test_masks_are_drawn_with_small_objects_on_large_ones(tmp_path: Path):
    runs = np.zeros((HIGH, WIDE), np.uint8)
    runs[20:25, 20:30] = 1
    packed = tool.encode(np.asfortranarray(runs))
    ring = runs.T.ravel()
    counts = np.diff(np.flatnonzero(np.diff(np.concatenate([[2], ring, [2]])))).tolist()
    write(
        tmp_path,
        coco(
            {1: "a.jpg", 2: "b.jpg", 3: "c.jpg"},
            of(1, 7, segmentation=[square(4, 4, 3), square(30, 4, 3)]),
            of(1, 0, segmentation=[square(2, 2, 10)]),
            of(1, 0, segmentation={"counts": [0, WIDE * HIGH], "size": [HIGH, WIDE]}, iscrowd=1),
            of(2, 0, segmentation={"counts": packed["counts"].decode(), "size": [HIGH, WIDE]}),
            of(2, 7, 1, 1, 4, 5),
            of(2, 7, 30, 1, 4, 5, segmentation={"counts": [3, 4], "size": [HIGH, WIDE]}),
            of(3, 7, segmentation={"counts": counts, "size": [HIGH, WIDE]}),
            of(3, 7, segmentation=[[1, 2, 3]]),
            categories={3: "Background", 7: "dog", 9: "never", 0: "cat"},
        ),
    )
    listing = listed(tmp_path, truth="masks")
    expected = np.full((HIGH, WIDE), 255, np.uint8)
    expected[2:12, 2:12] = 1
    expected[4:7, 4:7] = expected[4:7, 30:33] = 2
    np.testing.assert_array_equal(mask(listing, "images/a.jpg"), expected)
    expected = np.zeros((HIGH, WIDE), np.uint8)
    expected[1:6, 1:5] = expected[1:6, 30:34] = 255
    np.testing.assert_array_equal(mask(listing, "images/b.jpg"), expected | runs)
    np.testing.assert_array_equal(mask(listing, "images/c.jpg"), 2 * runs)
    assert listing.rows[0].mask == "masks.zip/images/a.jpg.png" and listing.rows[0].labels == ("dog", "cat")
    assert truths(listing)["images/a.jpg"]["numbers"] == {"dog": 2, "cat": 1}
    for words in (
        "converted: outlines of 4 objects are drawn as masks with the classes [background, cat, dog]",
        "noticed: 1 outlines are crowds, and their pixels do not count: images/a.jpg (cat)",
        "converted: 2 objects have no outline: the pixels in their box do not count",
        "left out: 1 outlines cannot be drawn: images/b.jpg (dog): its runs count 7 of 1200 pixels",
        "left out: 1 outlines are neither polygons nor runs",
        "left out: 1 objects have neither an outline nor a box: images/c.jpg (dog)",
    ):
        assert words in said(listing), said(listing)
    write(tmp_path, coco(NAMES, of(1, 0, 1, 2, 9, 9)))
    with pytest.raises(
        ValueError, match=r"no object has an outline that could be drawn; set ingest.truth: boxes"
    ):
        listed(tmp_path, truth="masks")


def test_an_outline_of_stored_pixels_is_turned_with_its_image(tmp_path: Path):
    content = coco({1: "a.png"}, of(1, 0, segmentation=[square(0, 0, 9)]))
    (tmp_path / "instances.json").write_text(json.dumps(content))
    image(tmp_path / "a.png", orientation=3)
    for places, orientation in (("upright", 1), ("stored", 3)):
        listing = listed(tmp_path, truth="masks", boxes_in=places)
        assert listing.draw is not None
        drawn = Image.open(io.BytesIO(listing.draw("a.png.png")))
        assert drawn.getexif().get(0x0112, 1) == orientation


@pytest.mark.parametrize("seed", range(20))
def test_runs_are_those_of_cocos_tool(seed: int):
    rng = np.random.default_rng(seed)
    pixels = (rng.random((rng.integers(1, 40), rng.integers(1, 40))) < rng.random()).astype(np.uint8)
    if seed % 2:
        pixels = np.kron(pixels, np.ones((37, 41), np.uint8))
    text = tool.encode(np.asfortranarray(pixels))["counts"].decode()
    runs = Runs(text, (pixels.shape[1], pixels.shape[0]))
    runs.check((pixels.shape[1], pixels.shape[0]))
    np.testing.assert_array_equal(runs.inside(), pixels.astype(bool))
    plain = Runs(read_counts(text).tolist(), runs.size)
    np.testing.assert_array_equal(plain.inside(), runs.inside())


@pytest.mark.parametrize("text", ["é", "1o", " "])
def test_a_text_of_runs_that_cocos_tool_does_not_write_is_refused(text: str):
    with pytest.raises(ValueError, match=r"cut off|COCO does not use"):
        read_counts(text)


@pytest.mark.filterwarnings("ignore:__array__ implementation")  # of pycocotools with NumPy 2
@pytest.mark.parametrize("seed", range(10))
def test_polygons_are_nearly_those_of_cocos_tool(seed: int):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.random(12) * 2 * np.pi)
    corners = np.stack([50 + 45 * np.cos(angles), 40 + 35 * np.sin(angles)], axis=1)
    ours = np.zeros((80, 100), np.uint8)
    paint(ours, corners, 1)
    theirs = tool.decode(tool.frPyObjects([corners.ravel().tolist()], 80, 100))[..., 0]
    assert (ours & theirs).sum() >= 0.98 * (ours | theirs).sum()
    area = abs(
        np.dot(corners[:, 0], np.roll(corners[:, 1], 1)) - np.dot(corners[:, 1], np.roll(corners[:, 0], 1))
    )
    assert abs(int(ours.sum()) - area / 2) < 0.01 * area
