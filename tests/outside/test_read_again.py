"""What another look at people's folders and tables found: each is named, or stops with the way out."""

import shutil
from pathlib import Path

import pytest

from temper.data.dataset.splits import check_strata
from temper.data.remark import Remark
from temper.data.sources.litter import is_litter
from temper.data.sources.table_file import read_columns
from temper.problems.classes import find_misspelt
from tests.outside.files import class_folders, image, list_folder, list_table


def said(remarks: tuple[object, ...]) -> str:
    return "\n".join(map(str, remarks))


@pytest.mark.parametrize(
    ("images", "truth"),
    [("image", "label"), ("imagesTr", "labelsTr"), ("img_dir", "ann_dir"), ("Images", "Ground-Truth")],
)
@pytest.mark.parametrize("split", ["", "train"], ids=["at the top", "below a split"])
def test_images_beside_their_truth_are_no_classes(tmp_path: Path, images: str, truth: str, split: str):
    root = tmp_path / "images" / split
    class_folders(root, names=(images, truth))
    if split:
        class_folders(tmp_path / "images" / "test", names=(images, truth))
    with pytest.raises(ValueError, match=rf"{images}/ and {truth}/ of .* look like images and their truth"):
        list_folder(tmp_path)


def test_letters_and_other_classes_are_not_taken_for_images_and_truth(tmp_path: Path):
    class_folders(tmp_path / "images", names=("x", "y", "input", "seat"))
    assert len({row.labels for row in list_folder(tmp_path).rows}) == 4


def test_files_of_boxes_below_a_split_are_no_empty_class(tmp_path: Path):
    for split in ("train", "val"):
        class_folders(tmp_path / "images" / split, names=("images", "labels"))
        for path in (tmp_path / "images" / split / "labels").iterdir():
            path.rename(path.with_suffix(".txt"))
    with pytest.raises(ValueError, match=r"look like images and their truth, not like classes"):
        list_folder(tmp_path)


def test_a_folder_in_a_class_is_named_and_one_called_like_another_class_stops(tmp_path: Path):
    class_folders(tmp_path / "images")
    image(tmp_path / "images" / "cat" / "rejected" / "9.png", 9)
    assert "cat/rejected" in said(list_folder(tmp_path).remarks)
    image(tmp_path / "images" / "cat" / "Dog" / "8.png", 8)
    with pytest.raises(ValueError, match=r"contains a folder 'Dog', which is called like another class"):
        list_folder(tmp_path)


@pytest.mark.parametrize(
    "name", ["RECYCLER", "#snapshot", "@tmp", "Network Trash Folder", "thumbs", "found.000", "FOUND.012"]
)
def test_folders_of_systems_are_no_classes(tmp_path: Path, name: str):
    class_folders(tmp_path / "images", names=("cat", "dog", name))
    listing = list_folder(tmp_path)
    assert {row.labels for row in listing.rows} == {("cat",), ("dog",)} and name in said(listing.remarks)
    assert not is_litter("found.1000", folder=True) and not is_litter("snapshot", folder=True)


def test_empty_cells_of_one_hot_columns_are_said_and_empty_rows_stop(tmp_path: Path):
    text = "path,cat,dog\n0.png,1,\n1.png,nan,1\n2.png,0,1\n"
    listing = list_table(tmp_path, text, labels=None, one_hot=("cat", "dog"))
    assert [row.labels for row in listing.rows] == [("cat",), ("dog",), ("dog",)]
    assert [remark.count for remark in listing.remarks] == [2] and "taken for 0" in said(listing.remarks)
    with pytest.raises(ValueError, match=r"row 3 \(2.png\) has no 0 or 1 in the columns of ingest.one_hot"):
        list_table(tmp_path, text.replace("0,1\n", ",nan\n"), labels=None, one_hot=("cat", "dog"))


def test_lines_end_where_a_file_ends_them_and_nowhere_else(tmp_path: Path):
    file = tmp_path / "t.csv"
    text = "path,labels,note\r\n0.png,cat,one\x0btwo\u2028three\r\n1.png,dog,\x85\r\n"
    file.write_text(text, encoding="utf-8", newline="")
    cells = read_columns(file).cells
    assert cells["labels"] == ["cat", "dog"] and cells["note"] == ["one\x0btwo\u2028three", "\x85"]


@pytest.mark.parametrize("joint", ["/", " "])
def test_a_label_that_consists_of_other_labels_is_named(tmp_path: Path, joint: str):
    text = f"path,labels\n0.png,cat;dog\n1.png,cat{joint}dog\n2.png,cat\n"
    assert f"cat{joint}dog" in said(list_table(tmp_path, text).remarks)
    single = text.replace(f"cat{joint}dog", f"cat{joint}bird")
    assert "several labels" not in said(list_table(tmp_path, single).remarks)


def test_numbered_classes_are_no_misspellings():
    assert find_misspelt({"grade1": 100, "grade10": 9, "grade2": 80}) == []
    assert find_misspelt({"bicycles": 100, "bicycle": 9}) and find_misspelt({"parrot": 100, "parrott": 2})


def test_equal_images_with_other_labels_are_named_at_the_top(tmp_path: Path):
    from tests.project import make_project, run_until

    project = make_project(tmp_path / "p", "multiclass", count=40)
    class_folders(tmp_path / "images", count=8)
    shutil.copy(tmp_path / "images" / "cat" / "0.png", tmp_path / "images" / "dog" / "a.png")
    text = (project / "params.yaml").read_text(encoding="utf-8")
    source = "ingest: {source: imagefolder, folder: ../images}"
    lines = [source if line.startswith("ingest:") else line for line in text.splitlines()]
    (project / "params.yaml").write_text("\n".join(lines), encoding="utf-8")
    run_until(project, "prepare")
    report = (project / "artifacts" / "prepare" / "report.html").read_text(encoding="utf-8")
    opening = report[report.index("Guessed, left out") : report.index("other labels elsewhere") + 300]
    assert "cat/0.png = dog/a.png" in opening


def test_rows_without_a_split_beside_rows_with_one_are_said(tmp_path: Path):
    text = "path,labels,split\n0.png,cat,train\n1.png,dog,\n2.png,dog,test\n"
    (remark,) = list_table(tmp_path, text, split="split").remarks
    assert remark.names == ("1.png",) and "have no split" in remark.text
    assert list_table(tmp_path, text.replace("dog,\n", "dog,train\n"), split="split").remarks == ()


def test_numbers_that_mean_that_nothing_is_known_are_named(tmp_path: Path):
    def remarks(ages: list[float]) -> tuple[Remark, ...]:
        for number in range(len(ages)):
            image(tmp_path / f"{number}.png", number)
        lines = "".join(f"{i}.png,{age}\n" for i, age in enumerate(ages))
        return list_table(tmp_path, f"path,age\n{lines}", labels=None, values=("age",)).remarks

    usual = [31.0, 22, 45, 22, 28, 61, 57, 40, 39, 44, 51, 23]
    assert remarks(usual) == () and remarks([1, 2, 5] * 4) == ()
    (remark,) = remarks([*usual[:10], -999, -999])
    assert remark.names == ("age: -999 in 2 rows",)
    (remark,) = remarks([*usual[:11], 1e30])
    assert remark.names == ("age: 1e+30 in 1 rows",)
    (remark,) = remarks([31.0, 22, 45, 33, 28, 61, 57, 40, 39, 0, 0, 0, 0])
    assert remark.names == ("age: 0 in 4 rows",)


def test_names_that_were_read_in_another_encoding_are_named(tmp_path: Path):
    text = "path,labels\n0.png,Caf\u00e9\n1.png,Caf\u00c3\u00a9\n2.png,caf\u00e8\n"
    assert "Caf\u00c3\u00a9 = Caf\u00e9" in said(list_table(tmp_path, text).remarks)


@pytest.mark.parametrize("text", ["path:labels\n0.png:cat\n1.png:dog\n", "'path','labels'\n'0.png','cat'\n"])
def test_other_separators_and_quotes_are_explained(tmp_path: Path, text: str):
    with pytest.raises(
        ValueError, match=r"no column .path..*its header is .*ingest\.separator.*quoted by \""
    ):
        list_table(tmp_path, text)


def test_one_image_without_any_class_is_no_class():
    counts = {
        "train": {"cat": 3, "(none)": 1},
        "validation": {"cat": 1, "(none)": 0},
        "test": {"cat": 1, "(none)": 0},
    }
    check_strata(counts, official=frozenset(), optional=frozenset({"(none)"}))
    with pytest.raises(ValueError, match=r"\(none\)"):
        check_strata(counts, official=frozenset())
