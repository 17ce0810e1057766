"""Rows of tables in the inbox are appended once to the project's table, and their images are never lost."""

import csv
import os
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from temper.config import load
from temper.data.sources import LISTED
from temper.ops.project import Project
from temper.ops.retraining import inbox, intake_steps
from temper.problem import Row
from tests.outside.files import image, set_lines
from tests.project import make_project

CLASSES = "path,labels\n0.png,cat\n1.png,dog\n2.png,cat;dog\n3.png,\n"
KIND = "multilabel"


def table_project(folder: Path, kind: str = KIND, table: str = CLASSES, /, **ingest: str) -> Project:
    """Write a project with the table `data/t.csv`; its images `0.png` to `9.png` are beside it."""
    options = "".join(f", {key}: {value}" for key, value in ingest.items())
    project = make_project(folder, kind)
    (project / "data").mkdir()
    set_lines(project, ingest=f"{{source: table, file: data/t.csv{options}}}")
    for number in map(int, re.findall(r"\b(\d)\.png", table)):
        image(project / "data" / f"{number}.png", number)
    (project / "data" / "t.csv").write_bytes(table.encode())
    return Project.at(project)


def drop(project: Project, text: str, *seeds: int, name: str = "week/new.csv") -> Path:
    """Put a table into the inbox; the images that it names are beside it, each with its own pixels."""
    table = project.folder / "inbox" / "labelled" / name
    names = re.findall(r"([\w/-]+\.png)", text)
    for seed, each in zip(seeds or range(100, 100 + len(names)), names, strict=True):
        image(table.parent / each, seed)
    table.parent.mkdir(parents=True, exist_ok=True)
    table.write_text(text)
    settle(project)
    return table


def settle(project: Project) -> None:
    """Make all files of the inbox look as if nobody copied them any more."""
    for path in (project.folder / "inbox").rglob("*"):
        os.utime(path, (time.time() - 10,) * 2)


def take(project: Project) -> inbox.Taken:
    return inbox.import_new(project, load(project.folder))


def rows(project: Project) -> list[Row]:
    return LISTED["table"](load(project.folder).ingest, project.folder).rows


def main(project: Project) -> str:
    return (project.folder / "data" / "t.csv").read_bytes().decode()


def left(project: Project, folder: str = "labelled") -> list[str]:
    place = project.folder / "inbox" / folder
    return sorted(path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_file())


def test_rows_with_labels_are_appended_and_their_images_moved(tmp_path: Path):
    project = table_project(tmp_path)
    drop(project, "labels,path,note\ndog;cat,images/a.png,x\n,b.png,y\n")
    taken = take(project)
    assert taken.moved == {"week/new.csv": 2}
    assert "data/t.csv has 2 new rows" in taken.words() and "columns note of week/new.csv" in taken.words()
    assert main(project).startswith(CLASSES)
    new = rows(project)[4:]
    assert [row.labels for row in new] == [("dog", "cat"), ()]
    assert all(re.fullmatch(r"taken/[ab]-[0-9a-f]{12}\.png", row.id) for row in new)
    assert left(project) == []
    assert take(project).words() == "the inbox contains no new examples"


def test_several_tables_are_taken_at_once(tmp_path: Path):
    project = table_project(tmp_path)
    drop(project, "path,labels\na.png,dog\n", 200)
    drop(project, "path;labels\na.png;cat\nb.png;dog\n", 201, 200, name="late/more.csv")
    drop(project, "path\tlabels\na.png\tcat\n", 202, name="tabs.tsv")
    taken = take(project)
    assert taken.moved == {"late/more.csv": 2, "tabs.tsv": 1} and taken.known == 1
    assert [row.labels for row in rows(project)[4:]] == [("cat",), ("dog",), ("cat",)]


def test_masks_move_with_their_images(tmp_path: Path):
    masks = {"labels": "null", "mask": "mask"}
    project = table_project(tmp_path, "segmentation", "path,mask\n0.png,m0.png\n1.png,m1.png\n", **masks)
    set_lines(project.folder, problem="{kind: segmentation, classes: [ground, cell]}")
    for number in range(2):
        write_mask(project.folder / "data" / f"m{number}.png", number)
    drop(project, "path,mask\na.png,m/a.png\nb.png,m/b.png\nc.png,m/a.png\n", 100, 101, 102, 103, 104, 101)
    place = project.folder / "inbox" / "labelled" / "week" / "m"
    write_mask(place / "a.png", 1)
    write_mask(place / "b.png", 7)
    settle(project)
    taken = take(project)
    assert taken.moved == {"week/new.csv": 2}
    assert len(taken.unusable) == 1 and "class number 7" in taken.unusable[0]
    new = rows(project)[2:]
    assert len({row.mask for row in new}) == 1 and (new[0].mask or "").startswith("images.zip/taken/masks/a-")
    assert left(project) == []
    assert len(left(project, "aside")) == 4  # the image, its mask, their row and the reasons


def test_texts_without_images_are_taken(tmp_path: Path):
    options = {"path": "null", "text": "words", "numbers": "[age]"}
    project = table_project(
        tmp_path, "text", "words,age,labels\nmiau,1,cat\nwoof,2.5,dog\nwuff,,dog\n", **options
    )
    set_lines(project.folder, problem="{kind: multiclass, inputs: [text, table]}", evaluate="{families: []}")
    drop(project, "age,labels,words\n,cat,purr\n2.50,dog,woof\n2,dog,woof\n1,dog,miau\n")
    taken = take(project)
    assert taken.moved == {"week/new.csv": 2} and taken.known == 1
    assert taken.disputed == ["week/new.csv row 4 is t.csv row 1"]
    assert main(project).endswith("wuff,,dog\npurr,,cat\nwoof,2,dog\n")
    reasons = (project.folder / "inbox" / "aside" / "reasons.csv").read_text()
    assert "week/new.csv row 4" in reasons and left(project) == []
    [rest] = [name for name in left(project, "aside") if name.endswith("new.csv")]
    assert "1,dog,miau" in (project.folder / "inbox" / "aside" / rest).read_text()


def test_an_image_with_another_text_is_another_example(tmp_path: Path):
    options = {"text": "words"}
    project = table_project(
        tmp_path, "three inputs", "path,words,labels\n0.png,big,cat\n1.png,small,dog\n", **options
    )
    set_lines(project.folder, problem="{kind: multiclass, inputs: [image, text]}")
    text = "path,words,labels\na.png,small,cat\nb/a.png,large,cat\nc.png,big,cat\nd.png,big,dog\n"
    drop(project, text, 0, 0, 0, 0)
    taken = take(project)
    assert taken.moved == {"week/new.csv": 2} and taken.known == 1
    assert taken.disputed == ["week/d.png is 0.png"] and len({row.path for row in rows(project)}) == 4


def write_mask(path: Path, value: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def test_an_equal_image_with_another_mask_is_disputed(tmp_path: Path):
    masks = {"labels": "null", "mask": "mask"}
    project = table_project(tmp_path, "segmentation", "path,mask\n0.png,m0.png\n", **masks)
    set_lines(project.folder, problem="{kind: segmentation, classes: [ground, cell]}")
    write_mask(project.folder / "data" / "m0.png", 0)
    drop(project, "path,mask\na.png,ma.png\nb.png,mb.png\n", 0, 1, 0, 2)
    for number, name in enumerate(("ma.png", "mb.png")):
        write_mask(project.folder / "inbox" / "labelled" / "week" / name, number)
    settle(project)
    taken = take(project)
    assert (taken.known, taken.disputed, taken.moved) == (1, ["week/b.png is 0.png"], {})


def box(*sides: int) -> str:
    """A cell of a table with one box."""
    return f'"[{{""label"": ""cat"", ""box"": {list(sides)}}}]"'


@pytest.mark.parametrize(
    ("kind", "ingest", "text", "new", "row"),
    [
        (
            "regression",
            {"values": "[age]"},
            "path,age,who\n0.png,3,x\n1.png,4.5,y\n2.png,5,z\n",
            "age,path\n7.25,a.png\n5,b.png\n4,c.png\n",
            "7.25",
        ),
        (
            "keypoints",
            {"points": "{nose: [nx, ny]}"},
            "path,nx,ny\n0.png,1,2\n1.png,,\n2.png,4,4\n",
            "path,ny,nx\na.png,7,3.5\nb.png,4,4.0\nc.png,4,1\n",
            "3.5,7",
        ),
        (
            "detection",
            {"boxes": "what"},
            f"path,what\n0.png,{box(1, 2, 5, 6)}\n1.png,\n2.png,{box(1, 1, 4, 4)}\n",
            f"what,path\n{box(3, 3, 7, 8)},a.png\n{box(1, 1, 4, 4)},b.png\n,c.png\n",
            re.escape(box(3, 3, 7, 8)),
        ),
    ],
)
def test_numbers_points_and_boxes(
    tmp_path: Path, kind: str, ingest: dict[str, str], text: str, new: str, row: str
):
    project = table_project(tmp_path, kind, text, **ingest)
    set_lines(project.folder, problem=f"{{kind: {kind}}}")
    drop(project, new, 100, 2, 0)
    taken = take(project)
    assert taken.moved == {"week/new.csv": 1} and taken.known == 1
    assert taken.disputed == ["week/c.png is 0.png"]
    assert re.search(rf"^taken/a-\w+\.png,{row}(,)?$", main(project), re.MULTILINE)


def test_what_prepare_would_reject_is_put_aside_with_its_row(tmp_path: Path):
    project = table_project(
        tmp_path, "keypoints", "path,nx,ny\n0.png,1,2\n1.png,4,4\n", points="{nose: [nx, ny]}"
    )
    set_lines(project.folder, problem="{kind: keypoints}")
    table = drop(project, "path,nx,ny\na.png,70,3\nb.png,1,1\nc.png,2,2\n")
    (table.parent / "b.png").write_bytes(b"no image")
    settle(project)
    taken = take(project)
    assert taken.moved == {"week/new.csv": 1} and len(taken.unusable) == 2
    assert "outside the image" in taken.words() and "not an image" in taken.words()
    aside = project.folder / "inbox" / "aside"
    reasons = list(csv.reader((aside / "reasons.csv").read_text().splitlines()))
    assert {line[0] for line in reasons[1:]} == {name for name in left(project, "aside") if ".png" in name}
    [rest] = [name for name in left(project, "aside") if name.endswith("new.csv")]
    listed = list(csv.DictReader((aside / rest).read_text().splitlines()))
    assert [line["nx"] for line in listed] == ["70", "1"]
    assert all((aside / "week" / line["path"]).is_file() for line in listed)


def test_a_row_that_does_not_fit_the_problem_is_put_aside_alone(tmp_path: Path):
    project = table_project(tmp_path, "multiclass", "path,labels\n0.png,cat\n1.png,dog\n")
    drop(project, "path,labels\na.png,cat\nb.png,\nc.png,cat;dog\nd.png,dog\n")
    taken = take(project)
    assert taken.moved == {"week/new.csv": 2} and len(taken.unusable) == 2
    assert [row.labels for row in rows(project)[2:]] == [("cat",), ("dog",)]


def test_known_and_disputed_images_are_put_aside(tmp_path: Path):
    project = table_project(tmp_path)
    drop(project, "path,labels\na.png,dog;cat\nb.png,cat\nc.png,dog\nd.png,dog\n", 2, 1, 300, 300)
    taken = take(project)
    assert (taken.known, taken.disputed) == (2, ["week/b.png is 1.png"])
    assert "with another truth: week/b.png is 1.png" in taken.words()
    assert taken.moved == {"week/new.csv": 1} and len(rows(project)) == 5
    reasons = (project.folder / "inbox" / "aside" / "reasons.csv").read_text()
    assert "another truth: 1.png" in reasons and reasons.count("contains it already") == 2


def test_unknown_labels_stay_until_they_are_allowed(tmp_path: Path):
    project = table_project(tmp_path)
    table = drop(project, "path,labels\r\na.png,CAT\r\nb.png,emu;cat\r\nc.png,emu\r\n")
    taken = take(project)
    assert taken.moved == {"week/new.csv": 1} and taken.strange == {"emu": 2}
    assert re.search(r"left 2 emu: .*retrain\.new_classes: allow.* 3 images", taken.words())
    assert table.read_bytes() == b"path,labels\r\nb.png,emu;cat\r\nc.png,emu\r\n"
    assert rows(project)[-1].labels == ("cat",) and "took CAT for the class cat" in taken.words()
    with (project.folder / "params.yaml").open("a") as params:
        params.write("retrain: {new_classes: allow}\n")
    drop(project, "path,labels\nd.png,emu\n", 300, name="more.csv")
    assert take(project).moved == {"more.csv": 1, "week/new.csv": 2}
    assert left(project) == []


def test_classes_of_the_problem_are_no_longer_open(tmp_path: Path):
    project = table_project(tmp_path)
    set_lines(project.folder, problem="{kind: multilabel, classes: [cat, dog]}")
    with (project.folder / "params.yaml").open("a") as params:
        params.write("retrain: {new_classes: allow}\n")
    drop(project, "path,labels\na.png,emu\nb.png,emu\nc.png,emu\n")
    taken = take(project)
    assert taken.strange == {"emu": 3} and "problem.classes" in taken.words()


def test_one_hot_columns_split_and_group(tmp_path: Path):
    text = "path,cat,dog,part,who\n0.png,1,0,train,p1\n1.png,0,1,test,p2\n"
    options = {"one_hot": "[cat, dog]", "split": "part", "group": "who"}
    project = table_project(tmp_path, KIND, text, **options)
    drop(project, "who,part,dog,cat,path\nP1,val,1,1.0,a.png\n")
    assert take(project).moved == {"week/new.csv": 1}
    new = rows(project)[-1]
    assert (new.labels, new.split, new.group) == (("cat", "dog"), "validation", "p1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label\na.png,cat\n", r"'labels' \(ingest\.labels\).*data/t\.csv"),
        ("path,labels\na.png\n", "1 cells"),
        ("path,labels\na.png,cat\nb.png,cat\n", r"b\.png"),
        ("path,labels\n../../../data/0.png,cat\n", "not in .*labelled"),
        ("path,labels\n", "no rows"),
    ],
)
def test_a_table_with_an_error_stays_and_is_named(tmp_path: Path, text: str, message: str):
    project = table_project(tmp_path)
    table = drop(project, "path,labels\na.png,cat\n")
    table.write_text(text)
    settle(project)
    taken = take(project)
    assert len(taken.refused) == 1 and re.search(f"left week/new.csv: .*{message}", taken.words())
    assert table.read_text() == text and (table.parent / "a.png").is_file()
    assert main(project) == CLASSES and not taken.unsorted


def test_files_that_no_table_names_stay_and_are_named(tmp_path: Path):
    project = table_project(tmp_path)
    table = drop(project, "path,labels\na.png,cat\n")
    image(table.parent / "stray.png", 300)
    (table.parent / "notes.txt").write_text("words")
    settle(project)
    taken = take(project)
    assert taken.unsorted == ["labelled/week/stray.png"] and taken.litter == ["week/notes.txt"]
    assert "no table of the inbox names: labelled/week/stray.png" in taken.words()
    assert (table.parent / "stray.png").is_file()


@pytest.mark.parametrize("name", ["new.csv", "a.png"])
def test_what_may_still_be_being_copied_is_left(tmp_path: Path, name: str):
    project = table_project(tmp_path)
    table = drop(project, "path,labels\na.png,cat\n")
    os.utime(table.parent / name)
    taken = take(project)
    assert taken.fresh == 1 and not taken.moved and left(project) == ["week/a.png", "week/new.csv"]
    settle(project)
    assert take(project).moved == {"week/new.csv": 1}


FORMATS = {
    "semicolons and quotes": ('"path";"labels";"n"\n"0.png";"cat";1\n', '"A";"dog";7\n"B";"c;at";8\n'),
    "quotes where they are needed": ('path;labels;n\n0.png;"c;at";1\n', 'A;dog;7\nB;"c;at";8\n'),
    "Windows, without an end": ("path,labels\r\n0.png,cat", "\r\nA,dog\r\nB,c;at"),
    "quotes in the last column": ('n,path,labels\n1,0.png,"c,at"\n', "7,A,dog\n8,B,c;at\n"),
    "tabs": ("path\tlabels\n0.png\tcat\n", "A\tdog\nB\tc;at\n"),
    "Excel's first line": ("sep=;\npath;labels\n0.png;cat\n", 'A;dog\nB;"c;at"\n'),
    "comments and empty lines": ("# by hand\nlabels,path\n\ncat,0.png\n\n", "dog,A\nc;at,B\n"),
}
"""Kind of file -> what it contains, and what is appended to it."""


@pytest.mark.parametrize(("text", "added"), FORMATS.values(), ids=FORMATS)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
def test_a_text_keeps_its_format(tmp_path: Path, text: str, added: str, encoding: str):
    project = table_project(tmp_path, KIND, text, joined_by='"|"')
    raw = ("\ufeff" * encoding.startswith("utf-16") + text).encode(encoding)
    (project.folder / "data" / "t.csv").write_bytes(raw)
    with (project.folder / "params.yaml").open("a") as params:
        params.write("retrain: {new_classes: allow}\n")
    lines = [
        f"{name}.png,{label},{n}\n"
        for name, label, n in zip("abcdef", ["dog", "c;at"] * 3, "780000", strict=True)
    ]
    drop(project, f"path,labels,n\n{''.join(lines)}")
    assert take(project).moved == {"week/new.csv": 6}
    content = (project.folder / "data" / "t.csv").read_bytes()
    assert content.startswith(raw)
    end = content[len(raw) :].decode(encoding.replace("-sig", ""))
    assert re.sub(r"taken/([ab])-\w+\.png", lambda name: name[1].upper(), end).startswith(added)


def parquet_project(
    folder: Path, table: Mapping[str, Any], schema: pa.Schema, *, compression: str = "zstd"
) -> Project:
    """Write a project with a table in Parquet."""
    project = table_project(folder)
    path = project.folder / "data" / "t.parquet"
    pq.write_table(pa.table(dict(table), schema=schema), path, compression=compression)
    params = project.folder / "params.yaml"
    params.write_text(params.read_text().replace("data/t.csv", "data/t.parquet"))
    return project


def test_parquet_keeps_its_schema_and_types(tmp_path: Path):
    schema = pa.schema(
        [
            ("path", pa.large_string()),
            ("labels", pa.list_(pa.string())),
            ("age", pa.int16()),
            ("size", pa.float32()),
            ("day", pa.date32()),
            ("kind", pa.dictionary(pa.int8(), pa.string())),
            ("who", pa.string()),
        ],
        metadata={"by": "hand"},
    )
    table = {
        "path": ["0.png", "1.png"],
        "labels": [["cat"], ["cat", "dog"]],
        "age": [3, None],
        "size": [0.1, 0.2],
        "day": [None, None],
        "kind": ["x", "y"],
        "who": ["p", "q"],
    }
    project = parquet_project(tmp_path, table, schema)
    before = pq.read_schema(project.folder / "data" / "t.parquet")
    drop(project, "path,labels,age,size,day,kind\na.png,dog;cat,4.0,0.3,2024-02-29,z\nb.png,,,,,x\n")
    taken = take(project)
    assert taken.moved == {"week/new.csv": 2} and "columns who of data/t.parquet empty" in taken.words()
    path = project.folder / "data" / "t.parquet"
    found = pq.read_table(path)
    assert found.schema.equals(before, check_metadata=True)
    assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
    lines = found.to_pylist()
    assert [line["labels"] for line in lines] == [["cat"], ["cat", "dog"], ["dog", "cat"], []]
    assert [str(lines[2][name]) for name in ("age", "day", "kind", "who")] == ["4", "2024-02-29", "z", "None"]


def test_a_cell_that_a_column_of_parquet_cannot_contain(tmp_path: Path):
    schema = pa.schema([("path", pa.string()), ("labels", pa.string()), ("n", pa.int64())])
    table = {"path": ["0.png", "1.png"], "labels": ["cat", "dog;cat"], "n": [1, 2]}
    project = parquet_project(tmp_path, table, schema, compression="none")
    drop(project, "path,labels,n\na.png,dog,3\nb.png,dog,many\n")
    taken = take(project)
    assert taken.moved == {"week/new.csv": 1} and "'n'" in taken.words() and "'many'" in taken.words()


def test_parquet_in_the_inbox_keeps_the_rows_that_stay(tmp_path: Path):
    project = table_project(tmp_path)
    table = drop(project, "path,labels\na.png,cat\nb.png,emu\n", name="new.parquet")
    names = {"path": ["a.png", "b.png"], "labels": [["cat", "dog"], ["emu"]], "n": [1, 2]}
    pq.write_table(pa.table(names), table)
    settle(project)
    taken = take(project)
    assert taken.moved == {"new.parquet": 1} and taken.strange == {"emu": 1}
    assert main(project).endswith(",cat;dog\n")
    assert pq.read_table(table).to_pylist() == [{"path": "b.png", "labels": ["emu"], "n": 2}]


def test_rows_that_were_put_aside_can_be_dropped_again(tmp_path: Path):
    project = table_project(tmp_path)
    drop(project, "path,labels\nimages/b.png,cat\n", 1)
    assert len(take(project).disputed) == 1
    (project.folder / "data" / "t.csv").write_text(CLASSES.replace("1.png,dog\n", ""))
    (project.folder / "data" / "1.png").unlink()
    (project.folder / "inbox" / "aside" / "reasons.csv").unlink()
    (project.folder / "inbox" / "labelled").rename(tmp_path / "old")
    (project.folder / "inbox" / "aside").rename(project.folder / "inbox" / "labelled")
    settle(project)
    assert take(project).moved.total() == 1 and left(project) == []
    assert rows(project)[-1].labels == ("cat",)


def test_new_rows_that_change_how_the_table_is_read_are_refused(tmp_path: Path):
    """A bar joins the labels of the table, which is a guess that new labels may refute."""
    project = table_project(tmp_path, KIND, "path,labels\n0.png,cat|dog\n1.png,cat\n2.png,dog\n")
    with (project.folder / "params.yaml").open("a") as params:
        params.write("retrain: {new_classes: allow}\n")
    text = "path,labels\na.png,cat;dog\nb.png,cat;dog\nc.png,cat;dog\n"
    drop(project, text)
    before = main(project)
    with pytest.raises(ValueError, match=r"data/t\.csv .*left as it is.*ingest\.joined_by \(now '\|'\)"):
        take(project)
    assert main(project) == before and not (project.folder / "data" / "taken").exists()
    assert len(left(project)) == 4


def test_a_table_that_is_read_only_is_refused(tmp_path: Path):
    project = table_project(tmp_path)
    drop(project, "path,labels\na.png,cat\n")
    (project.folder / "data" / "t.csv").chmod(0o444)
    with pytest.raises(ValueError, match=r"data/t\.csv is read-only.*`dvc unprotect data/t\.csv`"):
        take(project)
    assert len(left(project)) == 2


def test_the_inbox_is_not_where_new_images_go(tmp_path: Path):
    project = table_project(tmp_path)
    with (project.folder / "params.yaml").open("a") as params:
        params.write("retrain: {inbox: data}\n")
    table = project.folder / "data" / "labelled" / "new.csv"
    image(table.parent / "a.png", 100)
    table.write_text("path,labels\na.png,cat\n")
    with pytest.raises(ValueError, match=r"retrain\.inbox = 'data'.*data/t\.csv"):
        take(project)


def test_a_table_that_changes_meanwhile_is_not_overwritten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = table_project(tmp_path)
    drop(project, "path,labels\na.png,cat\n")
    copy = intake_steps._copy

    def edit(path: Path, place: Path) -> None:
        copy(path, place)
        (project.folder / "data" / "t.csv").write_text(CLASSES.replace("0.png,cat", "0.png,dog"))

    monkeypatch.setattr(intake_steps, "_copy", edit)
    with pytest.raises(ValueError, match=r"data/t\.csv changed"):
        take(project)
    monkeypatch.undo()
    assert take(project).moved == {"week/new.csv": 1}
    assert "0.png,dog" in main(project) and len(rows(project)) == 5


class Killed(BaseException):
    """The end of the process."""


STEPS = ("_copy", "_explain", "write_atomically", "_write", "flush")
TEXT = "path,labels\na.png,dog\nb.png,cat\nc.png,emu\nd.png,cat;dog\n"
SEEDS = (100, 1, 101, 102)


def state(project: Project) -> tuple[str, dict[str, list[str]]]:
    """Return all that an import leaves."""
    return main(project), {name: left(project, name) for name in ("labelled", "aside", "../data/taken")}


@pytest.mark.parametrize(
    ("after", "linked"),
    [(False, True), (True, True), (True, False)],
    ids=["before a step", "after a step", "two disks"],
)
def test_a_kill_at_any_step_loses_nothing_and_takes_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: bool, linked: bool
):
    whole = table_project(tmp_path / "whole")
    drop(whole, TEXT, *SEEDS)
    take(whole)
    for number in range(100):
        project = table_project(tmp_path / str(number))
        drop(project, TEXT, *SEEDS)
        with monkeypatch.context() as patch:
            calls = kill_at(number, patch, after=after, linked=linked)
            try:
                take(project)
            except Killed:
                pass
            else:
                break
        settle(project)
        images = {path.read_bytes() for path in project.folder.rglob("*.png")}
        assert len(images) == 4 + 3, "an image was lost"
        again = take(project)
        settle(project)
        assert not again.refused and state(project)[0] == state(whole)[0], f"{calls[-1]} at {number}"
        if linked:
            assert state(project) == state(whole), f"{calls[-1]} at {number}"
    assert number > 12, "steps were missed"


def kill_at(number: int, patch: pytest.MonkeyPatch, *, after: bool, linked: bool) -> Sequence[str]:
    """Make the step with a number the last one; returns the names of the steps so far."""
    calls: list[str] = []

    def watch(name: str, step: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any, **options: Any) -> Any:
            calls.append(name)
            last = len(calls) == number + 1
            if last and not after:
                raise Killed
            result = step(*arguments, **options)
            if last:
                raise Killed
            return result

        return run

    for name in STEPS:
        patch.setattr(intake_steps, name, watch(name, getattr(intake_steps, name)))
    patch.setattr(Path, "unlink", watch("unlink", Path.unlink))
    if not linked:

        def refuse(*_: Any) -> None:
            raise OSError("another disk")

        patch.setattr(Path, "hardlink_to", refuse)
    return calls
