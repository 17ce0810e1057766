"""Folders as people have them: the right rows, or an error or a remark that names file and way out."""

import os
import unicodedata
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from temper.data.source_params import ImageFolder
from temper.data.sources import LISTED
from temper.problem import Row
from temper.problems.classes import bind_classes, find_misspelt
from tests.outside.files import (
    ADDED,
    DECOMPOSED,
    LEFT_OUT,
    LOOK_ALIKES,
    class_folders,
    image,
    list_folder,
    set_lines,
    split_folders,
)
from tests.project import make_project, run_until


def labels(rows: list[Row]) -> set[str]:
    return {label for row in rows for label in row.labels}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_what_is_left_out_is_named(tmp_path: Path, what: str):
    class_folders(tmp_path / "images")
    generate, name = LEFT_OUT[what]
    generate(tmp_path / "images")
    listing = list_folder(tmp_path)
    assert len(listing.rows) == 6 and labels(listing.rows) == {"cat", "dog"}
    told = [remark for remark in listing.remarks if any(name in each for each in remark.names)]
    assert told and all(remark.kind == "left out" and remark.count for remark in told)


@pytest.mark.parametrize("what", ADDED)
def test_what_is_read(tmp_path: Path, what: str):
    class_folders(tmp_path / "images")
    generate, count = ADDED[what]
    generate(tmp_path / "images")
    listing = list_folder(tmp_path)
    assert len(listing.rows) == 6 + count
    assert [remark.names for remark in listing.remarks] == ([("dog/2020",)] if "in a class" in what else [])
    assert all(listing.find(name).is_file() for name in listing.names)


@pytest.mark.parametrize("what", LOOK_ALIKES)
def test_classes_that_differ_only_in_spelling_are_refused_or_merged(tmp_path: Path, what: str):
    class_folders(tmp_path / "images")
    generate, words = LOOK_ALIKES[what]
    generate(tmp_path / "images")
    rows = list_folder(tmp_path).rows
    if what == "two forms of Unicode":
        assert len(labels(rows)) == 3, "labels are composed, so both folders are one class"
        return
    with pytest.raises(ValueError, match=f"{words}.*problem.classes"):
        bind_classes((), rows)
    assert bind_classes(("cat", "dog"), rows) == ("cat", "dog")


def test_a_decomposed_name_is_one_class_with_a_composed_label(tmp_path: Path):
    class_folders(tmp_path / "images", names=["dog", DECOMPOSED])
    listing = list_folder(tmp_path)
    assert labels(listing.rows) == {"dog", unicodedata.normalize("NFC", DECOMPOSED)}
    assert all(listing.find(name).is_file() for name in listing.names)


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (("Training", "Testing"), {"train", "test"}),
        (("Train", "Valid", "Test"), {"train", "validation", "test"}),
        (("TRAIN", "dev", "TEST"), {"train", "validation", "test"}),
        (("train", "eval"), {"train", "validation"}),
        (("train", "val", "test"), {"train", "validation", "test"}),
    ],
)
def test_usual_spellings_are_splits(tmp_path: Path, names: tuple[str, ...], splits: set[str]):
    split_folders(tmp_path / "images", *names)
    (tmp_path / "images" / names[0] / "desktop.ini").write_text("x")
    listing = list_folder(tmp_path)
    assert {row.split for row in listing.rows} == splits
    assert labels(listing.rows) == {"cat", "dog"}
    unusual = [name for name in names if name not in ("train", "validation", "test")]
    assert [remark.names for remark in listing.remarks if remark.kind == "guessed"] == (
        [tuple(sorted(unusual))] if unusual else []
    )


def test_a_split_that_is_a_dangling_link_is_named(tmp_path: Path):
    split_folders(tmp_path / "images", "train", "test")
    (tmp_path / "images" / "val").symlink_to(tmp_path / "nowhere", target_is_directory=True)
    assert [remark.names for remark in list_folder(tmp_path).remarks] == [("val",)]


def test_a_stray_image_beside_classes_does_not_turn_splits_into_classes(tmp_path: Path):
    split_folders(tmp_path / "images", "train", "test")
    image(tmp_path / "images" / "train" / "stray.png")
    listing = list_folder(tmp_path)
    assert labels(listing.rows) == {"cat", "dog"}
    assert [remark.names for remark in listing.remarks] == [("train/stray.png",)]


def test_a_folder_that_may_be_a_split_or_a_class_is_refused(tmp_path: Path):
    split_folders(tmp_path / "images", "train")
    image(tmp_path / "images" / "train" / "loose.png")
    assert {row.split for row in list_folder(tmp_path).rows} == {"train"}
    image(tmp_path / "images" / "bus" / "0.png")
    with pytest.raises(ValueError, match=r"may be a split or a class; move the loose .*ingest.splits: none"):
        list_folder(tmp_path)
    assert labels(list_folder(tmp_path, splits="none").rows) == {"bus", "train"}


def test_folders_with_equal_subfolders_are_never_classes(tmp_path: Path):
    split_folders(tmp_path / "images", "fold-1", "fold-2")
    with pytest.raises(ValueError, match=r"fold-1, fold-2\) contain equal subfolders .*ingest.splits: none"):
        list_folder(tmp_path)
    assert labels(list_folder(tmp_path, splits="none").rows) == {"fold-1", "fold-2"}


def test_a_class_of_several_folders_is_said(tmp_path: Path):
    class_folders(tmp_path / "images" / "animals")
    class_folders(tmp_path / "images", names=["other"])
    listing = list_folder(tmp_path)
    assert labels(listing.rows) == {"animals", "other"}
    assert [(remark.kind, remark.names) for remark in listing.remarks] == [("guessed", ("animals",))]


def test_all_empty_classes_are_named_at_once(tmp_path: Path):
    class_folders(tmp_path / "images")
    for number in range(5):
        (tmp_path / "images" / f"empty-{number}").mkdir()
    with pytest.raises(ValueError, match=r"5 class folders are empty .*empty-0.*empty-4"):
        list_folder(tmp_path)


@pytest.mark.parametrize("folder", [".", "..", "images/../.."])
def test_a_folder_that_contains_the_project_is_refused(tmp_path: Path, folder: str):
    from temper.data.source_params import ImageFolder
    from temper.data.sources import LISTED

    project = tmp_path / "above" / "project"
    class_folders(project / "images")
    with pytest.raises(ValueError, match=r"contains the project's own files; move the data into"):
        LISTED["imagefolder"](ImageFolder(source="imagefolder", folder=folder), project)


def test_the_report_opens_with_what_was_left_out_and_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    project = make_project(tmp_path / "project", "multiclass")
    set_lines(
        project,
        problem="{kind: multiclass, classes: [cat, dog]}",
        ingest="{source: imagefolder, folder: images}",
    )
    class_folders(project / "images", count=12)
    class_folders(project / "images", names=["Cat"])
    for generate, _ in LEFT_OUT.values():
        generate(project / "images")
    run_until(project, "prepare")
    said = capsys.readouterr().err
    assert "ingest: left out: 1 links whose target does not exist: cat/gone.png" in said
    report = (project / "artifacts" / "prepare" / "report.html").read_text()
    assert report.index("Guessed, left out, converted") < report.index("<h2>Counts")
    for _, name in LEFT_OUT.values():
        assert name in report
    assert "other spellings of a class" in report and "<td>Cat</td>" in report
    rows = pq.read_table(project / "artifacts" / "prepare" / "rows.parquet")
    assert {label for each in rows["labels"].to_pylist() for label in each} == {"cat", "dog"}


def test_classes_one_folder_deeper_are_named(tmp_path: Path):
    class_folders(tmp_path / "images" / "dataset")
    with pytest.raises(
        ValueError, match=r"\(cat, dog\) are the classes, name it: ingest.folder: images/dataset"
    ):
        list_folder(tmp_path)
    class_folders(tmp_path / "images" / "dataset", names=["owl"])
    params = ImageFolder(source="imagefolder", folder="images/dataset")
    assert len(LISTED["imagefolder"](params, tmp_path).rows) == 9


@pytest.mark.parametrize("truth", ["annotations", "masks", "Labels"])
def test_a_folder_of_images_beside_a_folder_of_their_truth_is_no_class(tmp_path: Path, truth: str):
    class_folders(tmp_path / "images", names=["images", truth])
    with pytest.raises(ValueError, match=rf"images/ and {truth}/ .* not like classes; .*ingest.splits: none"):
        list_folder(tmp_path)
    assert len(list_folder(tmp_path, splits="none").rows) == 6


def test_one_folder_under_two_names_is_refused(tmp_path: Path):
    class_folders(tmp_path / "images")
    (tmp_path / "images" / "kitten").symlink_to(tmp_path / "images" / "cat", target_is_directory=True)
    with pytest.raises(ValueError, match=r"cat and .*kitten are the same folder, through a link"):
        list_folder(tmp_path)


def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_read(tmp_path: Path):
    root = class_folders(tmp_path / "images")
    (root / "cat" / os.fsdecode(b"caf\xe9.png")).write_bytes((root / "cat" / "0.png").read_bytes())
    with pytest.raises(ValueError, match=r"cat/caf\\udce9.png' contains .* rename the file"):
        list_folder(tmp_path)


def test_splits_below_the_class_folders_are_refused_with_the_right_order(tmp_path: Path):
    for name in ("cat", "dog"):
        class_folders(tmp_path / "images" / name, names=["train", "test"])
    with pytest.raises(ValueError, match=r"contain the splits .*must be above .*make it images/test/cat"):
        list_folder(tmp_path)


@pytest.mark.parametrize("name", ["cat - Copy", "cat (2)", "cat_old", "cats", "Cat\u2013"])
def test_copies_of_a_class_folder_are_noticed(name: str):
    assert len(find_misspelt({"cat": 30, name: 20, "dog": 25})) == 1
    assert not find_misspelt({"cat": 30, "dog": 20, "class-1": 2, "class-2": 90})
