"""Tables as people have them: the right rows, or an error or a remark that names the parameter to set."""

from pathlib import Path

import pytest

from temper.data.sources.listing import Listing
from temper.problem import Row
from temper.problems.classes import bind_classes
from tests.outside.files import COMPOSED, DECOMPOSED, image, list_table


def labels(listing: Listing) -> list[tuple[str, ...]]:
    return [row.labels for row in listing.rows]


def kinds(listing: Listing) -> list[str]:
    return [remark.kind for remark in listing.remarks]


@pytest.mark.parametrize(
    ("text", "guessed"),
    [
        ("path,labels\n0.png,cat\n1.png,dog\n", False),
        ("path;labels\n0.png;cat\n1.png;dog\n", True),
        ("path\tlabels\n0.png\tcat\n1.png\tdog\n", True),
        ("path|labels\n0.png|cat\n1.png|dog\n", True),
        ("sep=;\npath;labels\n0.png;cat\n1.png;dog\n", False),
        ("path,labels\r\n0.png,cat\r\n1.png,dog\r\n", False),
        ("\ufeffpath,labels\n0.png,cat\n1.png,dog\n", False),
        ('"path","labels"\n"0.png","cat"\n"1.png","dog"\n', False),
        ("path,labels\n\n0.png,cat\n\n1.png, dog \n", False),
        ("path;note;labels\n0.png;1,5;cat\n1.png;2,5;dog\n", True),
    ],
)
def test_the_separator_is_found_out(tmp_path: Path, text: str, guessed: bool):
    listing = list_table(tmp_path, text)
    assert labels(listing) == [("cat",), ("dog",)]
    assert kinds(listing) == (["guessed"] if guessed else []) + (["left out"] if "note" in text else [])


def test_the_separator_can_be_set(tmp_path: Path):
    text = "path:labels\n0.png:cat\n1.png:dog\n"
    assert labels(list_table(tmp_path, text, separator=":")) == [("cat",), ("dog",)]


def test_utf_16_is_read_and_said(tmp_path: Path):
    listing = list_table(tmp_path, "path,labels\n0.png,cat\n1.png,dog\n".encode("utf-16"))
    assert labels(listing) == [("cat",), ("dog",)] and kinds(listing) == ["converted"]


def test_other_encodings_are_refused_with_the_line(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"not written in UTF-8 \(line 3 has the byte 0xe9\); save it as UTF-8"
    ):
        list_table(tmp_path, "path,labels\n0.png,cat\n1.png,caf\xe9\n".encode("latin-1"))


def test_a_huge_cell_is_no_reason_to_refuse_a_table(tmp_path: Path):
    text = f'path,labels,note\n0.png,cat,"{"x" * 200_000}"\n1.png,dog,\n'
    assert labels(list_table(tmp_path, text)) == [("cat",), ("dog",)]


def test_two_columns_of_one_name_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"2 columns called 'labels'; rename or remove one"):
        list_table(tmp_path, "path,labels,labels\n0.png,cat,dog\n1.png,dog,cat\n")


@pytest.mark.parametrize("joint", ["|", ",", " "])
def test_joined_labels_are_recognised_and_said(tmp_path: Path, joint: str):
    cells = [f"cat{joint}dog", "cat", "dog", f"dog{joint}owl", "owl"]
    text = "path;labels\n" + "".join(f"{number}.png;{cell}\n" for number, cell in enumerate(cells))
    listing = list_table(tmp_path, text, separator=";")
    assert labels(listing) == [("cat", "dog"), ("cat",), ("dog",), ("dog", "owl"), ("owl",)]
    assert any("joins several labels; ingest.joined_by" in str(remark) for remark in listing.remarks)


@pytest.mark.parametrize(
    "cells",
    [
        ["red fox", "grey fox", "red wolf", "grey wolf"],
        ["Paris, Texas", "Paris, France", "Rome, Italy"],
        ["cat|dog", "owl"],
    ],
)
def test_names_that_contain_separators_stay_whole(tmp_path: Path, cells: list[str]):
    text = "path;labels\n" + "".join(f"{number}.png;{cell}\n" for number, cell in enumerate(cells))
    assert labels(list_table(tmp_path, text, separator=";")) == [(cell,) for cell in cells]


def test_the_joint_can_be_set(tmp_path: Path):
    text = "path,labels\n0.png,cat+dog\n1.png,owl\n"
    assert labels(list_table(tmp_path, text, joined_by="+")) == [("cat", "dog"), ("owl",)]


ONE_HOT = "path,cat,dog,weight\n0.png,1,0,2\n1.png,0,1,3\n2.png,1,1,4\n3.png,0,0,1\n"


def test_one_hot_columns_are_labels(tmp_path: Path):
    assert labels(list_table(tmp_path, ONE_HOT, one_hot=("cat", "dog"))) == [
        ("cat",),
        ("dog",),
        ("cat", "dog"),
        (),
    ]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({}, r"no column 'labels' .*columns cat, dog hold 0 and 1; set ingest.one_hot"),
        ({"one_hot": ("cat", "weight")}, r"row 1 \(0.png\) has '2' in the column 'weight' of ingest.one_hot"),
        ({"one_hot": ("cat", "dgo")}, r"no column 'dgo' for ingest.one_hot; the nearest is 'dog'"),
        ({"one_hot": ("cat",), "labels": "dog"}, r"ingest.labels = 'dog' and ingest.one_hot are both set"),
    ],
)
def test_one_hot_columns_that_cannot_be_used(tmp_path: Path, params: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        list_table(tmp_path, ONE_HOT, **params)


def test_paths_of_windows_are_read_and_said(tmp_path: Path):
    image(tmp_path / "images" / "cat" / "a.png")
    listing = list_table(tmp_path, "path,labels\nimages\\cat\\a.png,cat\n1.png,dog\n")
    assert listing.find(listing.names[0]) == tmp_path / "images" / "cat" / "a.png"
    assert [remark.names for remark in listing.remarks] == [("images\\cat\\a.png",)]


@pytest.mark.parametrize(("written", "stored"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_another_form_of_unicode_in_a_path_is_read_and_said(tmp_path: Path, written: str, stored: str):
    image(tmp_path / f"{stored}.png")
    listing = list_table(tmp_path, f"path,labels\n{written}.png,cat\n1.png,dog\n")
    assert listing.find(listing.names[0]).name == f"{stored}.png"
    assert [remark.kind for remark in listing.remarks] == ["converted"]


def test_files_whose_paths_look_alike_have_names_of_their_own(tmp_path: Path):
    image(tmp_path / "sub" / "_up" / "0.png", 40)
    image(tmp_path / "0.png", 41)
    text = "path,labels\n_up/0.png,cat\n../0.png,dog\n"
    (tmp_path / "sub").mkdir(exist_ok=True)
    listing = list_table(tmp_path / "sub", text)
    assert len(set(listing.names)) == 2
    assert {listing.find(name).resolve() for name in listing.names} == {
        (tmp_path / "0.png").resolve(),
        (tmp_path / "sub" / "_up" / "0.png").resolve(),
    }


def test_one_file_under_two_paths_is_listed_twice(tmp_path: Path):
    with pytest.raises(ValueError, match=r"row 2 lists \./0.png a second time"):
        list_table(tmp_path, "path,labels\n0.png,cat\n./0.png,dog\n")


@pytest.mark.parametrize("split", ["Train", "TRAINING", "train"])
def test_splits_are_read_in_any_spelling(tmp_path: Path, split: str):
    listing = list_table(tmp_path, f"path,labels,s\n0.png,cat,{split}\n1.png,dog,Dev\n", split="s")
    assert [row.split for row in listing.rows] == ["train", "validation"]


def test_cells_that_are_written_as_lists_are_labels(tmp_path: Path):
    cells = ["\"['cat', 'dog']\"", "\"['cat']\"", "dog", "dog", "cat", "cat"]
    text = "path,labels\n" + "".join(f"{number}.png,{cell}\n" for number, cell in enumerate(cells))
    listing = list_table(tmp_path, text)
    assert [row.labels for row in listing.rows][:3] == [("cat", "dog"), ("cat",), ("dog",)]
    assert any("written as a list" in str(remark) for remark in listing.remarks)


def test_nan_is_no_class(tmp_path: Path):
    cells = ["cat", "NaN", "dog", "nan", "cat", "dog"]
    text = "path,labels\n" + "".join(f"{number}.png,{cell}\n" for number, cell in enumerate(cells))
    listing = list_table(tmp_path, text)
    assert [row.labels for row in listing.rows][1] == ()
    assert any("2 cells of NaN" in str(remark) for remark in listing.remarks)


@pytest.mark.parametrize(("one", "other"), [("1", "1.0"), ("cat", "cat\u200b"), ("2", "2.")])
def test_numbers_with_decimals_and_invisible_letters_are_spellings(one: str, other: str):
    rows = [Row(str(number), "x", labels=(label,)) for number, label in enumerate((one, other, "dog"))]
    with pytest.raises(ValueError, match="differ only in case"):
        bind_classes((), rows)
    assert bind_classes((one, "dog"), rows) == (one, "dog")


@pytest.mark.parametrize(
    ("written", "stored"),
    [("A.PNG", "a.png"), ("a", "a.png"), ("a.png", "A.png"), ("sub\\A.png", "sub/a.PNG")],
)
def test_paths_in_other_case_or_without_ending_are_read_and_said(tmp_path: Path, written: str, stored: str):
    image(tmp_path / stored)
    listing = list_table(tmp_path, f"path,labels\n{written},cat\n1.png,dog\n")
    assert listing.find(listing.names[0]) == tmp_path / stored
    assert [remark.names for remark in listing.remarks] == [(written,)]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("0.jpg", r"the nearest to '0.jpg' is '0.png'"),
        ("holiday-1.png", r"the nearest to 'holiday-1.png' is 'holiday_1.png'"),
        ("x.png", r"train_images/ holds 'x.png': move the table there, or write train_images/ in front"),
        ("x", r"train_images/ holds 'x': move the table there"),
        ("two", r"paths are relative to the table's folder; the nearest to 'two' is 'two.jpg'"),
    ],
)
def test_a_path_that_leads_nowhere_names_what_may_be_meant(tmp_path: Path, path: str, words: str):
    for name in ("holiday_1.png", "train_images/x.png", "two.jpg", "two.png"):
        image(tmp_path / name)
    with pytest.raises(ValueError, match=words):
        list_table(tmp_path, f"path,labels\n{path},cat\n1.png,dog\n")


def test_a_table_without_header_is_told_so(tmp_path: Path):
    with pytest.raises(ValueError, match=r"no header: its first line names the file '0.png'; .*path,labels"):
        list_table(tmp_path, "0.png,cat\n1.png,dog\n")


def test_comments_before_the_header_are_left_out_and_said(tmp_path: Path):
    text = "path,labels\n0.png,cat\n1.png,dog\n"
    listing = list_table(tmp_path, f"# exported on Monday\n# by a tool\n{text}")
    assert labels(listing) == [("cat",), ("dog",)] and kinds(listing) == ["left out"]
    assert labels(list_table(tmp_path, f"# {text}")) == [("cat",), ("dog",)]


def test_letters_of_other_alphabets_that_look_alike_are_spellings():
    rows = [Row(str(number), "x", labels=(label,)) for number, label in enumerate(("cat", "c\u0430t", "dog"))]
    with pytest.raises(
        ValueError, match=r"letters that look alike .*'c\\u0430t' and 'cat'|'cat' and 'c\\u0430t'"
    ):
        bind_classes((), rows)
