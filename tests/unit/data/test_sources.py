from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_STORED, ZipFile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from temper.data.source_params import Digits, ImageFolder, Table, Toys
from temper.data.sources import digits, fetch, toys
from temper.problem import Row


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    folder.mkdir()
    return folder


def put(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(name.encode())


def from_folder(tmp_path: Path, out: Path) -> list[Row]:
    return fetch(ImageFolder(source="imagefolder", folder="pics"), tmp_path, out)[0]


def test_digits_keep_their_levels(tmp_path: Path, out: Path) -> None:
    rows = digits.fetch(Digits(source="digits"), tmp_path, out)
    images = np.load(out / "images.npy")
    assert images.shape == (1797, 8, 8)
    assert len(np.unique(images)) == 17
    assert images.max() == 255
    assert rows[5] == Row("0005", "images.npy#5", labels=("5",))


def test_class_folders_become_labels_and_files_stay_as_they_are(tmp_path: Path, out: Path) -> None:
    put(
        tmp_path / "pics",
        "cat/a.jpg",
        "cat/deep/b.png",
        "cat/.hidden",
        "cat/.git/c.jpg",
        "dog/a#1.jpg",
        "note.txt",
    )
    rows = from_folder(tmp_path, out)
    assert [(row.id, row.labels, row.split) for row in rows] == [
        ("cat/a.jpg", ("cat",), None),
        ("cat/deep/b.png", ("cat",), None),
        ("dog/a#1.jpg", ("dog",), None),
    ]
    with ZipFile(out / "images.zip") as archive:
        assert all(info.compress_type == ZIP_STORED for info in archive.infolist())
        assert archive.read("dog/a#1.jpg") == b"dog/a#1.jpg"
    before = (out / "images.zip").read_bytes()
    (tmp_path / "pics/cat/a.jpg").touch()
    from_folder(tmp_path, out)
    assert (out / "images.zip").read_bytes() == before


def test_split_folders_fix_the_splits(tmp_path: Path, out: Path) -> None:
    put(tmp_path / "pics", "train/cat/a", "train/dog/b", "val/cat/c", "val/dog/d", "test/cat/e", "test/dog/f")
    rows = from_folder(tmp_path, out)
    assert {row.id: row.split for row in rows} == {
        "train/cat/a": "train",
        "train/dog/b": "train",
        "val/cat/c": "validation",
        "val/dog/d": "validation",
        "test/cat/e": "test",
        "test/dog/f": "test",
    }


def test_a_class_may_be_called_train(tmp_path: Path, out: Path) -> None:
    put(tmp_path / "pics", "train/a", "bus/b")
    assert [row.labels for row in from_folder(tmp_path, out)] == [("bus",), ("train",)]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ((), r"ingest\.folder = 'pics': .*pics does not exist"),
        (("a.jpg",), r"pics holds no class folders \(1 loose files\)"),
        (("cat/a", "dog/.hidden"), "the class folder .*dog is empty"),
        (("cat/a",), "pics holds one class only, 'cat'"),
        (
            ("train/cat/a", "train/dog/b", "extra/x"),
            r"extra is beside train/, but is none of train \(training\), .*ingest.splits: none",
        ),
        (
            ("train/cat/a", "val/cat/b", "validation/cat/c"),
            "both val/ and validation/, which mean the same split",
        ),
        (("test/cat/a", "val/cat/b"), "but no train/"),
    ],
)
def test_folders_that_cannot_be_used(tmp_path: Path, out: Path, names: Sequence[str], message: str) -> None:
    put(tmp_path / "pics", *names) if names else None
    with pytest.raises(ValueError, match=message):
        from_folder(tmp_path, out)


def from_table(tmp_path: Path, out: Path, text: str, **params: str | None) -> list[Row]:
    put(tmp_path, "a.png", "b.png", "m.png")
    (tmp_path / "t.csv").write_text(text)
    return fetch(Table(source="table", file="t.csv", **params), tmp_path, out)[0]  # type: ignore[arg-type]


def test_a_csv_with_everything(tmp_path: Path, out: Path) -> None:
    text = "path,labels,m,s,g\na.png,cat; dog,m.png,val,7\nb.png,,m.png,,\n"
    rows = from_table(tmp_path, out, text, mask="m", split="s", group="g")
    mask = "images.zip/m.png"
    assert rows == [
        Row("a.png", "images.zip/a.png", labels=("cat", "dog"), mask=mask, split="validation", group="7"),
        Row("b.png", "images.zip/b.png", mask=mask),
    ]
    with ZipFile(out / "images.zip") as archive:
        assert sorted(archive.namelist()) == ["a.png", "b.png", "m.png"]


def test_a_parquet_with_lists_and_paths_that_climb(tmp_path: Path, out: Path) -> None:
    put(tmp_path, "a.png", "sub/x")
    columns = {"path": ["../a.png", str(tmp_path / "sub/x")], "labels": [["cat", "dog"], []]}
    pq.write_table(pa.table(columns), tmp_path / "sub/t.parquet")
    rows, _ = fetch(Table(source="table", file="sub/t.parquet"), tmp_path, out)
    assert [row.labels for row in rows] == [("cat", "dog"), ()]
    assert rows[0].path == "images.zip/_up/a.png"
    assert ".." not in rows[1].path


@pytest.mark.parametrize(
    ("text", "params", "message"),
    [
        ("paths,labels\na.png,x\n", {}, r"no column 'path' for ingest\.path; .*nearest is 'paths'"),
        (
            "path,label\na.png,x\n",
            {},
            r"no column 'labels'.*nearest is 'label'; set ingest\.labels \(null for none\)",
        ),
        ("path,labels\n", {}, "has no rows"),
        ("path,labels\na.png,x\nc.png,y\n", {}, r"these files do not exist \(1 in all\): .*c.png"),
        (
            "path,labels,split\na.png,x,tets\n",
            {"split": "split"},
            r"row 1 has split 'tets' .*nearest is 'test'",
        ),
        ("path,labels\na.png,x\na.png,y\n", {}, "row 2 lists a.png a second time"),
        ("path,labels\n,x\n", {}, "row 1 has no path"),
        ("path,labels\na.png\n", {}, "row 1 has 1 cells, but the header has 2"),
        ("path,labels,m\na.png,x,\n", {"mask": "m"}, "has no mask"),
        ("path,labels\na.png,x\n", {"labels": None}, "are both null"),
    ],
)
def test_tables_that_cannot_be_used(
    tmp_path: Path, out: Path, text: str, params: dict[str, str], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        from_table(tmp_path, out, text, **params)


@pytest.mark.parametrize(("name", "message"), [("no.csv", "does not exist"), ("a.png", "ends in '.png'")])
def test_files_that_are_no_table(tmp_path: Path, out: Path, name: str, message: str) -> None:
    put(tmp_path, "a.png")
    with pytest.raises(ValueError, match=message):
        fetch(Table(source="table", file=name), tmp_path, out)


@pytest.mark.parametrize("truth", ["class", "labels", "mask"])
@pytest.mark.parametrize("channels", [1, 3])
def test_toys_are_seeded_and_tell_the_truth(tmp_path: Path, out: Path, truth: str, channels: int) -> None:
    params = Toys(source="toys", truth=truth, channels=channels, count=40, size_px=16)  # type: ignore[arg-type]
    rows = toys.fetch(params, tmp_path, out)
    images = np.load(out / "images.npy")
    assert images.shape == ((40, 16, 16) if channels == 1 else (40, 16, 16, 3))
    assert {len(row.labels) for row in rows} == ({1} if truth == "class" else {1, 2, 3})
    if truth == "mask":
        masks = np.load(out / "masks.npy")
        for row, mask, image in zip(rows, masks, images, strict=True):
            assert {toys.SHAPES[number - 1] for number in np.unique(mask) if number} == set(row.labels)
            assert image[mask > 0].mean() > image[mask == 0].mean() + 60
    again = toys.fetch(params, tmp_path, out)
    assert again == rows
    assert (np.load(out / "images.npy") == images).all()


def test_a_file_that_may_not_be_read_is_named(
    tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(tmp_path / "pics", "cat/a.jpg", "dog/b.jpg")
    plain = Path.open

    def refuse(path: Path, *args: object, **options: object) -> object:
        if path.name == "b.jpg":
            raise PermissionError(13, "Permission denied", str(path))
        return plain(path, *args, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(ValueError, match=r"may not read .*dog/b\.jpg; .*chmod"):
        from_folder(tmp_path, out)


def test_names_that_are_no_text_are_refused(tmp_path: Path, out: Path) -> None:
    put(tmp_path / "pics", "cat/a.jpg", "dog/a.jpg")
    (tmp_path / "pics/dog/b\udcff.jpg").touch()
    with pytest.raises(ValueError, match=r"dog/b.*jpg.* not printable text; rename the file"):
        from_folder(tmp_path, out)
