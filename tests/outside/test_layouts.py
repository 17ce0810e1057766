"""Folders of images that are no classes: splits without classes, parts of a dataset, masks beside images."""

from pathlib import Path

import pytest

from tests.outside.files import class_folders, image, list_folder


@pytest.mark.parametrize(
    "names",
    [
        ("train", "test"),
        ("Training", "Validation", "Testing"),
        ("train2017", "val2017"),
        ("train_images", "test_images"),
        ("trainA", "trainB", "testA", "testB"),
        ("bounding_box_train", "bounding_box_test", "query"),
    ],
)
def test_splits_without_classes_are_refused(tmp_path: Path, names: tuple[str, ...]):
    class_folders(tmp_path / "images", names=names)
    with pytest.raises(
        ValueError, match=r"are called like splits or other parts of a dataset, not like classes"
    ):
        list_folder(tmp_path)
    (tmp_path / "images" / "train.csv").write_text("path,labels\n")
    with pytest.raises(ValueError, match=r"if train.csv has the labels, set ingest.source: table"):
        list_folder(tmp_path)
    assert len(list_folder(tmp_path, splits="none").rows) == 3 * len(names)


@pytest.mark.parametrize(
    "names",
    [("images_001", "images_002"), ("HAM10000_images_part_1", "HAM10000_images_part_2"), ("set1", "set2")],
)
def test_numbered_parts_are_refused(tmp_path: Path, names: tuple[str, ...]):
    class_folders(tmp_path / "images", names=names)
    with pytest.raises(ValueError, match=r"are called like numbered parts of a dataset, not like classes"):
        list_folder(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("train", "bus"),
        ("grade1", "grade2"),
        ("0", "1"),
        ("asset1", "asset2"),
        ("Testudo", "Evaluna"),
        ("part", "whole"),
    ],
)
def test_classes_are_no_parts(tmp_path: Path, names: tuple[str, ...]):
    class_folders(tmp_path / "images", names=names)
    assert not list_folder(tmp_path).remarks


def test_the_classes_of_kaggle_s_nested_parts_are_not_lost(tmp_path: Path):
    for part in ("seg_train", "seg_test"):
        class_folders(tmp_path / "images" / part / part)
    with pytest.raises(ValueError, match=r"are called like splits or other parts"):
        list_folder(tmp_path)


def test_a_split_within_itself_is_refused(tmp_path: Path):
    for split in ("train", "test"):
        class_folders(tmp_path / "images" / split / split)
    with pytest.raises(
        ValueError, match=r"contains only a folder 'test', which is called like the split; move"
    ):
        list_folder(tmp_path)


def test_one_folder_called_like_a_split_is_named(tmp_path: Path):
    class_folders(tmp_path / "images", names=("cat", "dog", "test"))
    (remark,) = list_folder(tmp_path).remarks
    assert "classes are called like splits" in remark.text and remark.names == ("test",)


def test_masks_beside_images_are_refused(tmp_path: Path):
    root = class_folders(tmp_path / "images", names=("benign", "malignant"))
    for number in range(3):
        image(root / "benign" / f"benign ({number}).png", number)
        image(root / "benign" / f"benign ({number})_mask.png", 9 + number)
    with pytest.raises(ValueError, match=r"3 of 9 files of .*benign look like masks of other images there"):
        list_folder(tmp_path)


def test_images_and_masks_in_every_class_are_explained(tmp_path: Path):
    for kind in ("COVID", "Normal"):
        class_folders(tmp_path / "images" / kind, names=("images", "masks"))
    with pytest.raises(
        ValueError, match=r"each contain images, masks, which look like images and their truth"
    ):
        list_folder(tmp_path)


def test_splits_are_never_offered_as_classes(tmp_path: Path):
    class_folders(tmp_path / "images" / "images", names=("train", "val"))
    with pytest.raises(ValueError, match=r"holds one class only, 'images'; add a folder"):
        list_folder(tmp_path)


def test_a_table_beside_one_folder_is_named(tmp_path: Path):
    class_folders(tmp_path / "images", names=("images",))
    (tmp_path / "images" / "labels.csv").write_text("path,labels\n")
    with pytest.raises(
        ValueError, match=r"one class only, 'images'; if labels.csv names the labels, set ingest"
    ):
        list_folder(tmp_path)


def test_a_folder_of_other_files_is_not_called_empty(tmp_path: Path):
    root = class_folders(tmp_path / "images")
    (root / "owl").mkdir()
    for number in range(4):
        (root / "owl" / f"{number}.svg").write_text("<svg/>")
    with pytest.raises(
        ValueError, match=r"owl holds only files that are not read \(4 .svg\); put images into it"
    ):
        list_folder(tmp_path)


def test_names_that_are_no_text_are_shown_as_numbers(tmp_path: Path):
    root = class_folders(tmp_path / "images")
    (root / "caf\udce9.png").write_bytes(b"x")
    (root / "two\nlines.png").write_bytes(b"x")
    (remark,) = list_folder(tmp_path).remarks
    assert remark.names == ("caf\\udce9.png", "two\\nlines.png") and str(remark).isprintable()
