"""Cells and columns as other programs write them: the right rows, or a line that names what is odd."""

import json
from pathlib import Path
from typing import Any

import pytest

from temper.data.sources.listing import Listing
from temper.problem import Row
from temper.problems.classes import bind_classes
from temper.recipe.finding_source import find_source
from tests.outside.files import image, list_table


def table(folder: Path, cells: list[str], *, column: str = "labels", **params: object) -> Listing:
    """List a table whose cells of a column are given; the other rows show cats and dogs."""
    lines = "".join(
        f'{number}.png,"{cell.replace(chr(34), chr(34) * 2)}",cat\n' for number, cell in enumerate(cells)
    )
    header = "path,labels,other" if column == "labels" else f"path,{column},labels"
    return list_table(folder, f"{header}\n{lines}", **params)


def said(listing: Listing) -> str:
    return "\n".join(map(str, listing.remarks))


@pytest.mark.parametrize(
    ("cell", "labels"),
    [
        ("['cat' 'dog']", ("cat", "dog")),
        ("('cat', 'dog')", ("cat", "dog")),
        ("{'dog', 'cat'}", ("cat", "dog")),
        ('["cat", "dog"]', ("cat", "dog")),
        ("#N/A", ()),
        ("d&amp;g", ("d&g",)),
    ],
)
def test_cells_as_programs_write_them(tmp_path: Path, cell: str, labels: tuple[str, ...]):
    listing = table(tmp_path, [cell, "cat", "dog"])
    assert listing.rows[0].labels == labels and "converted: 1 " in said(listing)


@pytest.mark.parametrize(
    ("cells", "words"),
    [
        (["cat|dog", "owl"], "names that may be several labels.*ingest.joined_by: cat|dog"),
        (["cat and dog", "owl"], "names that may be several labels.*ingest.joined_by: cat and dog"),
        (["{'class': 'cat'}", "owl"], "quotes or braces in their names.*{'class': 'cat'}"),
        (["'cat'", "cat"], "quotes or braces in their names.*'cat'"),
        (["unknown", "?", "cat"], "may mean that there is no label: ?, unknown"),
    ],
)
def test_odd_names_are_noticed(tmp_path: Path, cells: list[str], words: str):
    found = said(table(tmp_path, cells))
    assert all(part in found for part in words.split(".*")), found


def test_a_bar_joins_labels_if_any_part_is_known(tmp_path: Path):
    listing = table(tmp_path, ["Edema|Mass", "Hernia|Nodule", "Mass|Hernia", "No Finding"])
    assert [row.labels for row in listing.rows[:2]] == [("Edema", "Mass"), ("Hernia", "Nodule")]


def test_groups_in_several_spellings_are_one_group_and_nan_is_none(tmp_path: Path):
    listing = table(tmp_path, ["0", "0.0", "P1", "p1 ", "NaN"], column="patient", group="patient")
    assert [row.group for row in listing.rows] == ["0", "0", "P1", "P1", None]
    assert "converted: 2 groups are written in several ways: 0.0, p1" in said(listing)
    assert "converted: 1 groups of NaN mean that the image is in no group: 4.png" in said(listing)


def test_columns_that_are_not_read_are_named(tmp_path: Path):
    text = "path,labels,Usage,patientId\n0.png,cat,Training,1\n1.png,dog,Test,1\n"
    assert "left out: 2 columns are not read: Usage, patientId" in said(list_table(tmp_path, text))
    source = find_source(tmp_path / "t.csv").source
    assert (source.split, source.group) == ("Usage", "patientId")  # type: ignore[union-attr]


def test_columns_that_describe_an_image_are_no_classes(tmp_path: Path):
    rows = "".join(f"{n}.png,{n % 2},{int(n > 1)},{n % 2},{1 - n % 2},{n % 2}\n" for n in range(6))
    (tmp_path / "t.csv").write_text(f"Image Index,sex,is_valid,cat,dog,island\n{rows}")
    source = find_source(tmp_path / "t.csv").source
    assert (source.path, source.one_hot) == ("Image Index", ("cat", "dog", "island"))  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("path,labels\n0.png,cat\npath,labels\n", r"row 2 repeats the header; remove the row"),
        ("path,labels,s\n0.png,cat,NaN\n", r"has split 'NaN'; write"),
        (b"PK\x03\x04 workbook", "an Excel workbook or a zip archive; save it as CSV"),
        (
            "path,labels\n/content/drive/pets/a.png,cat\n",
            r"pets/a.png is there: the paths are those of another",
        ),
        (
            "path,labels\nC:\\Users\\x\\pets\\a.png,cat\n",
            r"pets/a.png is there: the paths are those of another",
        ),
        ("path,labels\nNOTES,cat\n", "these files do not exist"),
    ],
)
def test_tables_that_cannot_be_used_name_the_way_out(tmp_path: Path, text: str | bytes, words: str):
    image(tmp_path / "pets" / "a.png")
    (tmp_path / "notes.txt").write_text("words")
    with pytest.raises(ValueError, match=words):
        list_table(
            tmp_path,
            text,
            **({"split": "s"} if b",s" in (text if isinstance(text, bytes) else text.encode()) else {}),
        )


def test_columns_of_numbers_are_read_as_numbers(tmp_path: Path):
    listing = list_table(tmp_path, "path,age,kg\n0.png,31,62.5\n1.png, 4 ,1e1\n", values=("age", "kg"))
    assert [row.truth for row in listing.rows] == ['{"age": 31.0, "kg": 62.5}', '{"age": 4.0, "kg": 10.0}']
    assert [row.labels for row in listing.rows] == [(), ()] and said(listing) == ""


def test_boxes_are_read_from_json_and_no_objects_from_an_empty_cell(tmp_path: Path):
    one = [{"label": "cat", "box": [1, 2, 30, 40.5]}, {"label": 7, "box": [0, 0, 5, 5], "crowd": 1}]
    text = f"path,objects\n0.png,{quoted(json.dumps(one))}\n1.png,\n"
    listing = list_table(tmp_path, text, boxes="objects")
    found = [json.loads(row.truth or "")["boxes"] for row in listing.rows]
    assert found == [[one[0], {"label": "7", "box": [0, 0, 5, 5], "crowd": True}], []]
    assert [row.labels for row in listing.rows] == [("cat", "7"), ()] and said(listing) == ""
    with pytest.raises(ValueError, match=r"no column 'object' for ingest.boxes; the nearest is 'objects'"):
        list_table(tmp_path, text, boxes="object")
    with pytest.raises(ValueError, match=r"ingest.labels = 'labels' and ingest.boxes are both set"):
        list_table(tmp_path, "path,labels,objects\n0.png,cat,\n1.png,cat,\n", boxes="objects")


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize(
    ("cell", "words"),
    [
        ("cat 1 2 3 4", "is no JSON"),
        ('{"label": "cat", "box": [1, 2, 3, 4]}', "is no list"),
        ("[[1, 2, 3, 4]]", "lacks a label or a box"),
        ('[{"label": "cat", "bbox": [1, 2, 3, 4]}]', "lacks a label or a box"),
        ('[{"label": "cat", "box": [1, 2, 3, 4], "score": 1}]', "unknown key 'score'"),
        ('[{"label": " ", "box": [1, 2, 3, 4]}]', "label ' ', which is no text"),
        ('[{"label": "cat", "box": [1, 2, 3]}]', "is not four finite numbers"),
        ('[{"label": "cat", "box": [1, 2, 3, NaN]}]', "is not four finite numbers"),
        ('[{"label": "cat", "box": [1, 2, 3, "4"]}]', "is not four finite numbers"),
        ('[{"label": "cat", "box": [1, 2, 3, 4], "crowd": 2}]', "crowd = 2, which is neither true nor false"),
    ],
)
def test_cells_that_are_no_boxes_are_named_with_the_rule(tmp_path: Path, cell: str, words: str):
    text = f"path,objects\n0.png,\n1.png,{quoted(cell)}\n"
    with pytest.raises(ValueError, match=rf"row 2 \(1.png\): the cell of 'objects' .*{words}.*pixels"):
        list_table(tmp_path, text, boxes="objects")


def test_boxes_that_are_shares_of_the_image_are_refused(tmp_path: Path):
    cells = [quoted(json.dumps([{"label": "a", "box": [0, 0, 0.5, size]}])) for size in (0.5, 1)]
    with pytest.raises(ValueError, match=r"ingest.boxes = 'objects': all boxes are within 0 and 1"):
        list_table(tmp_path, f"path,objects\n0.png,{cells[0]}\n1.png,{cells[1]}\n", boxes="objects")


@pytest.mark.parametrize("cell", ["", "NaN", "3,5", "old", "inf"])
def test_what_is_no_number_is_named_with_row_and_column(tmp_path: Path, cell: str):
    words = rf"row 2 \(1.png\) has '{cell}' in the column 'age' of ingest.values"
    with pytest.raises(ValueError, match=words):
        list_table(tmp_path, f'path,age\n0.png,3.5\n1.png,"{cell}"\n', values=("age",))


def test_places_of_points_are_read_by_the_names_of_their_columns(tmp_path: Path):
    points = {"nose": ("nx", "ny"), "tail": ("tx", "ty")}
    text = "path,nx,ny,tx,ty\n0.png,3,4.5,,\n1.png,1,2, 7 ,nan\n"
    with pytest.raises(ValueError, match=r"row 2 \(1.png\) has only one of the two places.*'tail': 'ty'"):
        list_table(tmp_path, text, points=points)
    listing = list_table(tmp_path, text.replace("nan", "8"), points=points)
    found = [json.loads(row.truth or "")["points"] for row in listing.rows]
    assert found == [{"nose": [3, 4.5], "tail": None}, {"nose": [1, 2], "tail": [7, 8]}]
    assert not [remark for remark in listing.remarks if "not read" in remark.text]
    with pytest.raises(ValueError, match=r"'x' in the column 'nx' of ingest.points"):
        list_table(tmp_path, text.replace("3,4.5", "x,4.5"), points=points)
    with pytest.raises(ValueError, match=r"the point 'nose' has the column 'nx' twice"):
        list_table(tmp_path, text, points={"nose": ("nx", "nx")})
    with pytest.raises(ValueError, match=r"no column 'nz' for ingest.points"):
        list_table(tmp_path, text, points={"nose": ("nx", "nz")})


@pytest.mark.parametrize(("one", "other"), [("007", "7"), ("01", "1")])
def test_leading_zeros_are_a_spelling(one: str, other: str):
    rows = [Row(str(number), "x", labels=(label,)) for number, label in enumerate((one, other, "8"))]
    with pytest.raises(ValueError, match="decimals or leading zeros"):
        bind_classes((), rows)


@pytest.mark.parametrize(
    ("columns", "settings", "words"),
    [
        ("v,w", {"values": ("v",), "numbers": ("v", "w")}, r"'v' is given \(ingest.numbers\) and asked for"),
        ("v,labels", {"labels": "labels", "numbers": ("v", "labels")}, r"'labels' is given .*ingest.labels"),
        ("v,w", {"values": ("v", "v")}, r"ingest.values names the column 'v' twice"),
        ("v,w", {"points": {"a": ("v", "w"), "b": ("v", "w")}}, r"ingest.points names the column 'v' twice"),
        ("v,labels", {"values": ("v",)}, r"ingest.labels = 'labels' and ingest.values are both set"),
        ("v,w", {"values": ("v",), "points": {"a": ("v", "w")}}, r"ingest.values and ingest.points are both"),
    ],
)
def test_what_is_asked_for_is_not_given_and_only_one_truth_is_read(
    tmp_path: Path, columns: str, settings: dict[str, Any], words: str
):
    lines = "".join(f"{number}.png,{number},{number * 2}\n" for number in range(3))
    with pytest.raises(ValueError, match=words):
        list_table(tmp_path, f"path,{columns}\n{lines}", **settings)


def test_numbers_that_say_nothing_or_mean_that_nothing_is_known_are_named(tmp_path: Path):
    lines = "".join(f"{number}.png,x,{-999 if number % 4 == 0 else number},7,\n" for number in range(40))
    text = f"path,labels,n,same,none\n{lines}"
    listing = list_table(tmp_path, text, path=None, numbers=("n", "same", "none"))
    useless = "same (7.0 in all rows), none (empty in all rows)"
    assert f"say nothing, being equal in all rows: {useless}" in said(listing)
    assert "n: -999 in 10 rows" in said(listing)
