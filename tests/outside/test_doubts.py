"""Files that can be read, but are not what was meant: each is named, with the way out."""

import io
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.data.images.doubts import doubt_image, is_lossy
from temper.data.images.reading import open_plain
from temper.fields import Frame
from temper.maths.geometry import as_seen
from temper.recipe.looking import inspect_data
from tests.outside.files import (
    class_folders,
    image,
    list_folder,
    list_table,
    masks_project,
    photographs_project,
    place,
    said_by_prepare,
    set_lines,
)

LIMITS = {"max_pixels": 10**7, "max_side_px": 10**4}


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return photographs_project(tmp_path / "project")


def said(remarks: tuple[object, ...]) -> str:
    return "\n".join(map(str, remarks))


def test_jpegs_that_end_early_but_decode_are_named(project: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(60):
        pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), np.uint8)
        path = place(project, number).with_suffix(".jpg")
        Image.fromarray(pixels).save(path)
        place(project, number).unlink()
        if number < 3:
            raw = path.read_bytes()
            path.write_bytes(raw[: len(raw) // 2] + b"\xff\xd9")
    words = "prepare: noticed: 3 JPEGs end in lines of plain grey, as files do whose end was lost"
    assert f"{words}: look at them, and fetch them again: cat/00.jpg, cat/02.jpg, dog/01.jpg" in (
        said_by_prepare(project, capsys)
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_lost_end_is_found_however_exif_turns_the_image(orientation: int):
    pixels = np.random.default_rng(1).integers(0, 256, (64, 96, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", exif=exif)
    whole = stream.getvalue()
    for raw, doubtful in ((whole, False), (whole[: len(whole) // 2] + b"\xff\xd9", True)):
        assert bool(doubt_image(raw, open_plain(raw, **LIMITS), "a.jpg")) == doubtful


def test_a_grey_ground_is_no_lost_end():
    pixels = np.full((64, 64, 3), 128, np.uint8)
    pixels[20:40, 20:40] = 250
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG")
    assert not doubt_image(stream.getvalue(), open_plain(stream.getvalue(), **LIMITS), "a.jpg")


def test_previews_in_raw_files_of_cameras_are_named(project: Path, capsys: pytest.CaptureFixture[str]):
    picture = Image.open(place(project, 2)).copy()
    picture.save(place(project, 2), "TIFF")
    place(project, 2).rename(place(project, 2).with_suffix(".NEF"))
    assert "noticed: 1 files are RAW files of a camera, of which only the small preview" in (
        said_by_prepare(project, capsys)
    )


def test_tiny_and_long_images_are_named(project: Path, capsys: pytest.CaptureFixture[str]):
    for number, size in ((0, (2, 2)), (1, (640, 20)), (2, (20, 640)), (3, (48, 16))):
        Image.open(place(project, number)).resize(size).save(place(project, number))
    text = said_by_prepare(project, capsys)
    assert "noticed: 1 images have a side shorter than 8 px: cat/00.png" in text
    assert "noticed: 2 images lose their shape: they are made 16x16 px" in text


def test_images_that_are_too_wide_to_keep_their_height_are_counted(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    for number, size in ((0, (128, 16)), (1, (640, 20)), (2, (20, 640)), (3, (48, 24)), (4, (49, 24))):
        Image.open(place(project, number)).resize(size).save(place(project, number))
    wide = {"prepare: {": "prepare: {fit: keep-height, ", "width_px: 16": "width_px: 32"}
    path = project / "params.yaml"
    for old, new in wide.items():
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new))
    text = said_by_prepare(project, capsys)
    assert "converted: 3 images are wider than prepare.width_px = 32 at the full height of 16 px" in text
    assert "at most 16.0 times" in text and "lose their shape" not in text


@pytest.mark.parametrize(("chosen", "named"), [("auto", True), ("[0, 4095]", False)])
def test_levels_outside_the_range_of_the_sample_are_named(
    project: Path,
    chosen: str,
    named: bool,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("temper.data.dataset.remarks._SAMPLED", 10)
    for number in range(60):
        levels = np.random.default_rng(number).integers(0, 4096, (16, 16)).astype(np.uint16)
        Image.fromarray(levels * (16 if number == 8 else 1)).save(place(project, number))
    set_lines(project, prepare=f"{{height_px: 16, width_px: 16, range: {chosen}}}")
    text = said_by_prepare(project, capsys)
    assert ("1 images have a tenth of their levels or more outside the range" in text) == named


def test_blank_images_of_many_bits_are_not_called_transparent(
    project: Path, capsys: pytest.CaptureFixture[str]
):
    for number in range(60):
        levels = np.random.default_rng(number).integers(0, 4096, (16, 16)).astype(np.uint16)
        Image.fromarray(levels * 0 + 9 if number == 7 else levels).save(place(project, number))
    text = said_by_prepare(project, capsys)
    assert "1 images are blank: all their pixels are equal in the range that becomes 0 to 255; see" in text
    assert "transparent" not in text


def _disc(number: int, side: int, radius: int) -> np.ndarray:
    rng = np.random.default_rng(number)
    across, down = rng.integers(radius, side - radius, 2)
    return (np.hypot(*(np.mgrid[:side, :side] - [[[down]], [[across]]])) <= radius).astype(np.uint8)


def test_objects_that_vanish_when_masks_shrink_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = masks_project(tmp_path / "project", lambda number: _disc(number, 160, 1 if number < 9 else 40))
    for number in range(40):
        image(project / f"{number}.png", number, side=160)
    found = said_by_prepare(project, capsys).split("noticed: ")[1]
    assert (
        int(found.split()[0]) in range(6, 10) and "masks lose a class when they are resized to 16x16" in found
    )


def test_masks_that_are_jpegs_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = masks_project(tmp_path / "project", lambda number: _disc(number, 16, 4))
    table = (project / "t.csv").read_text()
    Image.open(project / "mask-3.png").save(project / "mask-3.jpg", quality=100)
    (project / "t.csv").write_text(table.replace("mask-3.png", "mask-3.jpg"))
    assert "noticed: 1 masks are JPEGs" in said_by_prepare(project, capsys)


def _masks(folder: Path, make: object, *, ending: str = "png") -> Path:
    lines = ["path,mask"]
    for number in range(60):
        image(folder / f"{number}.png", number, side=32)
        mask: np.ndarray = make(number)  # type: ignore[operator]
        name = f"mask-{number}.{'png' if ending == 'png' or number > 5 else ending}"
        Image.fromarray(mask).save(folder / name, **({} if name.endswith("png") else {"quality": 60}))
        lines.append(f"{number}.png,{name}")
    (folder / "t.csv").write_text("\n".join(lines) + "\n")
    return folder / "t.csv"


def test_init_does_not_take_the_numbers_of_jpegs_for_classes(tmp_path: Path):
    found = inspect_data(_masks(tmp_path, lambda number: 255 * _disc(number, 32, 8), ending="jpg"))
    assert found.num_classes == 2 and found.mask_values == {0: "background", 255: "class-1"}
    assert "6 masks are JPEGs" in said(found.remarks)


def test_init_says_that_masks_number_objects(tmp_path: Path):
    def objects(number: int) -> np.ndarray:
        mask = np.zeros((32, 32), np.uint8)
        for each in range(1, 2 + number % 7):
            mask[4 * each : 4 * each + 3, 4:9] = each
        return mask

    text = said(inspect_data(_masks(tmp_path, objects)).remarks)
    assert "masks seem to number objects, not classes" in text and "prepare.mask_values: {1: 1, 2: 1," in text


def test_init_says_that_masks_were_blurred(tmp_path: Path):
    def blurred(number: int) -> np.ndarray:
        picture = Image.fromarray(3 * _disc(number, 32, 8))
        return np.asarray(picture.resize((35, 35), Image.Resampling.BILINEAR).resize((32, 32)))

    remarks = inspect_data(_masks(tmp_path, blurred)).remarks
    assert "2 numbers in masks lie mostly between a lower and a higher one" in said(remarks)
    plain = inspect_data(
        _masks(tmp_path, lambda number: 2 * _disc(number, 32, 8) + _disc(number + 99, 32, 8))
    )
    assert not plain.remarks


def test_masks_with_several_pages_or_losses_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = masks_project(tmp_path / "project", lambda number: _disc(number, 16, 4))
    table = (project / "t.csv").read_text()
    pages = [Image.open(project / f"mask-{number}.png").copy() for number in range(3)]
    pages[0].save(project / "mask-5.tiff", save_all=True, append_images=pages[1:])
    Image.open(project / "mask-6.png").save(project / "mask-6.webp", lossless=True)
    table = table.replace("mask-5.png", "mask-5.tiff").replace("mask-6.png", "mask-6.webp")
    (project / "t.csv").write_text(table)
    text = said_by_prepare(project, capsys)
    assert "left out: 1 masks hold several pages" in text and "losses" not in text
    stream = io.BytesIO()
    Image.open(project / "mask-6.png").save(stream, "WEBP", quality=50)
    assert is_lossy(stream.getvalue()) and not is_lossy((project / "mask-6.webp").read_bytes())


def test_missing_data_in_whole_numbers_is_named(project: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(60):
        levels = np.random.default_rng(number).integers(200, 900, (16, 16)).astype(np.int32)
        levels[:4] = -32768
        place(project, number).unlink()
        Image.fromarray(levels).save(place(project, number).with_suffix(".tiff"))
    text = said_by_prepare(project, capsys)
    assert "the level -32768 is frequent and far from all others: if nothing was measured there, set" in text
    assert "prepare.range: [200, 899]" in text


def test_a_few_images_in_colour_among_grey_ones_are_named(project: Path, capsys: pytest.CaptureFixture[str]):
    for number in range(60):
        if number not in (3, 8):
            Image.open(place(project, number)).convert("L").save(place(project, number))
    assert "noticed: 2 images have colour, all others are grey" in said_by_prepare(project, capsys)


def test_equal_images_of_a_test_split_and_leaks_with_other_labels_are_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    project = photographs_project(tmp_path / "project")
    (project / "images").rename(project / "train")
    (project / "images").mkdir()
    (project / "train").rename(project / "images" / "train")
    folder = project / "images"
    for number in range(60, 80):
        image(folder / "test" / ("cat", "dog")[number % 2] / f"{number}.png", number, side=16)
    shutil.copy(folder / "test/cat/60.png", folder / "test/dog/torn.png")
    shutil.copy(folder / "test/cat/62.png", folder / "test/cat/twice.png")
    shutil.copy(folder / "test/cat/64.png", folder / "train/dog/leak.png")
    shutil.copy(folder / "test/cat/66.png", folder / "train/cat/leak.png")
    text = said_by_prepare(project, capsys)
    assert "have other labels elsewhere; correct one of the two: train/dog/leak.png = test/cat/64.png" in text
    assert "1 images occur several times in the test split with different labels" in text
    assert "test split is not changed: test/cat/62.png = test/cat/twice.png" in text


def test_images_that_no_row_names_are_counted(tmp_path: Path):
    for name in ("a/0.png", "a/9.png", "b/1.png", "c/8.png", "mask.png"):
        image(tmp_path / name)
    (tmp_path / "a" / "notes.txt").write_text("x")
    listing = list_table(tmp_path, "path,labels\na/0.png,cat\nb/1.png,dog\n")
    assert "left out: 1 images lie beside those of the table, but no row names them: a/9.png" in (
        said(listing.remarks)
    )


def test_groups_called_unknown_are_named(tmp_path: Path):
    text = "path,labels,group\n0.png,cat,Unknown\n1.png,dog,Unknown\n2.png,dog,7\n"
    found = said(list_table(tmp_path, text, group="group").remarks)
    assert "are one group each, whose images stay together" in found and "Unknown (2 images)" in found


def test_one_group_much_larger_than_all_others_is_named(tmp_path: Path):
    groups = ["0"] * 11 + ["a", "b", "c", "d", "e"]
    for number in range(len(groups)):
        image(tmp_path / f"{number}.png", number)
    lines = "".join(f"{number}.png,{number % 2},{group}\n" for number, group in enumerate(groups))
    text = said(list_table(tmp_path, f"path,labels,g\n{lines}", group="g").remarks)
    assert "0 (11 images)" in text and "or most of the images" in text


def test_a_folder_in_the_column_of_paths_is_refused(tmp_path: Path):
    image(tmp_path / "scans" / "0.png")
    with pytest.raises(ValueError, match=r"'scans' is a folder, not an image \(1 such paths\); write"):
        list_table(tmp_path, "path,labels\nscans,cat\n1.png,dog\n")


def test_masks_of_other_images_are_named(tmp_path: Path):
    for number in range(4):
        image(tmp_path / "im" / f"{number}.png", number)
        image(tmp_path / "ma" / f"{number}_mask.png", number)
    lines = [f"im/{number}.png,ma/{number}_mask.png\n" for number in range(4)]
    settings = {"labels": None, "mask": "mask"}
    assert not list_table(tmp_path, "path,mask\n" + "".join(lines), **settings).remarks
    lines = [f"im/{number}.png,ma/{(number + 1) % 4}_mask.png\n" for number in range(4)]
    text = said(list_table(tmp_path, "path,mask\n" + "".join(lines), **settings).remarks)
    assert "4 images have a mask that is called like another image: do rows fit?: im/0.png with ma/1" in text
    with pytest.raises(ValueError, match=r"ingest.path and ingest.mask name the same files"):
        list_table(tmp_path, "path,mask\nim/0.png,im/0.png\nim/1.png,im/1.png\n", **settings)


def test_zeros_and_shares_in_the_columns_of_points_are_told(tmp_path: Path):
    points = {"nose": ("x", "y")}
    for number in range(12):
        image(tmp_path / f"{number}.png", number)

    def remarks(place: Callable[[int], str]) -> str:
        lines = "".join(f"{number}.png,{place(number)}\n" for number in range(12))
        return said(list_table(tmp_path, f"path,x,y\n{lines}", labels=None, points=points).remarks)

    assert "nose at (0, 0) in 4 rows" in remarks(lambda number: "0,0" if number % 3 == 0 else f"{number},2")
    assert remarks(lambda number: f"{number},{number % 5}") == ""
    with pytest.raises(ValueError, match=r"all places are from 0 to 1, so they are shares of the image"):
        remarks(lambda number: f"0.{number + 10},0.5")


@pytest.mark.parametrize("place", ["-1,-1", "8.9,3"])
def test_places_just_outside_the_image_are_refused(place: str):
    with pytest.raises(ValueError, match=r"is outside the image of 8x8 px"):
        as_seen(np.array([float(each) for each in place.split(",")]), Frame(8, 8))
    as_seen(np.array([-0.5, 8.5]), Frame(8, 8))  # the edges, if pixels are counted by their middles


@pytest.mark.parametrize("cell", ['"[0, 1]"', '"(1, 0, 0)"'])
def test_one_hot_vectors_in_a_cell_are_refused(tmp_path: Path, cell: str):
    with pytest.raises(ValueError, match=r"looks like 0 and 1 for each class; write the names"):
        list_table(tmp_path, f"path,labels\n0.png,{cell}\n1.png,{cell}\n")


@pytest.mark.parametrize("joined", ["cat_dog", "cat:dog", "cat - dog", "cat und dog", "cat. dog", "cat\\dog"])
def test_labels_made_of_labels_are_named_whatever_joins_them(tmp_path: Path, joined: str):
    text = f"path,labels\n0.png,cat\n1.png,dog\n2.png,{joined}\n"
    found = list_table(tmp_path, text, joined_by="|").remarks
    assert any("may be several labels" in remark.text and remark.names == (joined,) for remark in found)


@pytest.mark.parametrize("label", ["#REF!", "(null)", "\\N", "N.A.", "UNK", "undefined"])
def test_labels_that_may_mean_nothing_are_named(tmp_path: Path, label: str):
    text = f"path,labels\n0.png,cat\n1.png,dog\n2.png,{label}\n"
    found = list_table(tmp_path, text).remarks
    assert any("there is no label" in remark.text and remark.names == (label,) for remark in found)


def test_init_leaves_out_columns_that_are_called_otherwise_than_they_are(tmp_path: Path):
    lines = ["path,labels,phase,mask"]
    for number in range(66):
        image(tmp_path / f"{number}.png", number)
        lines.append(f"{number}.png,{'cat' if number % 2 else 'dog'},arterial,yes")
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    found = inspect_data(tmp_path / "t.csv")
    assert not found.maps and not found.official
    assert "2 columns are not read: phase, mask" in said(found.remarks)


def test_a_damaged_parquet_file_is_named(tmp_path: Path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(
        pa.table({"path": [f"{i}.png" for i in range(999)], "labels": ["cat"] * 999}), tmp_path / "t.parquet"
    )
    raw = bytearray((tmp_path / "t.parquet").read_bytes())
    raw[40:400] = bytes(360)
    with pytest.raises(ValueError, match=r"t.parquet is not a Parquet file, or damaged"):
        list_table(tmp_path, bytes(raw), name="t.parquet")


def test_paths_that_were_written_as_bytes_are_explained(tmp_path: Path):
    with pytest.raises(ValueError, match=r"a program wrote them as bytes, not as text: remove b'...'"):
        list_table(tmp_path, "path,labels\nb'0.png',cat\nb'1.png',dog\n")


def test_python_s_own_way_to_write_numbers_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"'1_0' in the column 'age' of ingest.values; write a number"):
        list_table(tmp_path, "path,age\n0.png,1_0\n", labels=None, values=("age",))


@pytest.mark.parametrize("name", ["0.png.aria2", "0.md5", "all.zip", "0.sha256"])
def test_other_files_beside_images_are_no_images(tmp_path: Path, name: str):
    class_folders(tmp_path / "images")
    (tmp_path / "images" / "cat" / name).write_bytes(b"x")
    listing = list_folder(tmp_path)
    assert len(listing.rows) == 6 and name in said(listing.remarks)


def test_init_finds_one_hot_columns_with_empty_cells(tmp_path: Path):
    lines = ["path,cat,dog,owl"]
    for number in range(66):
        image(tmp_path / f"{number}.png", number)
        lines.append(
            f"{number}.png,{number % 2},{'' if number % 9 == 0 else number % 3 // 2},{number % 5 // 4}"
        )
    (tmp_path / "t.csv").write_text("\n".join(lines) + "\n")
    found = inspect_data(tmp_path / "t.csv")
    assert set(found.counts) == {"cat", "dog", "owl"} and "taken for 0" in said(found.remarks)


@pytest.mark.parametrize("name", ["New folder", "unsorted (2)", "cat_aug", "to-delete"])
def test_folders_that_are_called_like_no_class_are_named(tmp_path: Path, name: str):
    class_folders(tmp_path / "images", names=("cat", "dog", name))
    assert (
        f"3 classes are called as folders are that hold no class; if so, move or remove their images: {name}"[
            2:
        ]
        in said(list_folder(tmp_path).remarks)
    )
    class_folders(tmp_path / "others" / "images", names=("temple", "backpack", "other", "to_cat"))
    assert not list_folder(tmp_path / "others").remarks


def test_folders_of_two_labels_are_named(tmp_path: Path):
    class_folders(tmp_path / "images", names=("cat", "dog", "cat+dog"))
    assert "may be several labels; if so, write a table, where a row may have several: cat+dog" in (
        said(list_folder(tmp_path).remarks)
    )
