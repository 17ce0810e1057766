"""What inspection finds in folders and tables, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.config import parse
from temper.data.source_params import ImageFolder, Table
from temper.recipe import sampled_files
from temper.recipe.finding_source import find_source
from temper.recipe.looking import inspect_data, seen_from
from temper.recipe.new_project import describe, make_text
from tests.outside.files import class_folders, image, split_folders
from tests.unit.recipe.images import draw, fill
from tests.unit.recipe.typical import SPEEDS


def write_table(path: Path, rows: list[str]) -> Path:
    path.write_text("\n".join(rows) + "\n")
    return path


def test_a_folder(tmp_path: Path):
    found = inspect_data(fill(tmp_path / "pets", {"cat": 50, "dog": 30}))
    assert found.source == ImageFolder(source="imagefolder", folder=str(tmp_path / "pets"))
    assert found.problem == {"kind": "multiclass"}
    assert (found.num_examples, found.num_classes, found.counts) == (80, 2, {"cat": 50, "dog": 30})
    assert (found.height_px, found.width_px, found.least_px, found.most_px) == (24, 30, 24, 30)
    assert (found.official, found.num_groups, found.num_sampled, found.unreadable, found.maps) == (
        {},
        0,
        80,
        (),
        False,
    )


@pytest.mark.parametrize(("num_grey", "share", "channels"), [(0, 0.0, 3), (20, 0.25, 3), (80, 1.0, 1)])
def test_grey_means_equal_channels_in_every_image(tmp_path: Path, num_grey: int, share: float, channels: int):
    fill(tmp_path, {"cat": 50, "dog": 30})
    for path in sorted(tmp_path.glob("*/*.png"))[:num_grey]:
        draw(path, grey=True)
    found = inspect_data(tmp_path)
    assert (found.grey_share, found.channels) == (share, channels)


def test_sizes_are_medians_and_extremes(tmp_path: Path):
    fill(tmp_path, {"cat": 40, "dog": 20})
    draw(tmp_path / "cat" / "large.png", size=(100, 20))
    found = inspect_data(tmp_path)
    assert (found.height_px, found.width_px, found.least_px, found.most_px) == (24, 30, 20, 100)


def test_files_of_several_images_are_named_with_what_reads_them(tmp_path: Path):
    root = fill(tmp_path, {"cat": 40, "dog": 20})
    frames = [Image.fromarray(np.full((24, 30, 3), level, np.uint8)) for level in (10, 90, 200)]
    frames[0].save(root / "cat" / "film.gif", save_all=True, append_images=frames[1:])
    (remark,) = [each for each in inspect_data(root).remarks if "several images" in each.text]
    assert remark.count == 1 and "problem.inputs: [clip]" in remark.text and "film.gif" in remark.names[0]


def test_only_a_sample_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sampled_files, "MOST_SAMPLED", 60)
    found = inspect_data(fill(tmp_path, {"cat": 50, "dog": 30}))
    assert (found.num_examples, found.num_sampled) == (80, 60)
    monkeypatch.setattr(sampled_files, "_SAMPLED_BYTES", 1)
    assert inspect_data(tmp_path).num_sampled == 50


def test_damaged_files_are_named(tmp_path: Path):
    fill(tmp_path, {"cat": 50, "dog": 30})
    (tmp_path / "cat" / "000.png").write_bytes(b"no image")
    found = inspect_data(tmp_path)
    assert found.unreadable == ("cat/000.png: not an image in a known format",)
    assert found.num_sampled == 80


def test_official_splits_are_seen(tmp_path: Path):
    for split, count in (("train", 30), ("val", 6), ("test", 8)):
        fill(tmp_path / split, {"cat": count, "dog": count})
    assert inspect_data(tmp_path).official == {"test": 16, "train": 60, "validation": 12}


def test_a_table_with_several_labels_asks_for_each(tmp_path: Path):
    fill(tmp_path / "images", {"all": 60})
    rows = [
        f"images/all/{number:03d}.png,{'red;round' if number % 2 else 'red'},p{number // 3}"
        for number in range(60)
    ]
    found = inspect_data(write_table(tmp_path / "list.csv", ["File,Tags,patient", *rows]))
    assert found.source == Table(
        source="table", file=str(tmp_path / "list.csv"), path="File", labels="Tags", group="patient"
    )
    assert found.problem == {"kind": "multilabel"}
    assert found.counts == {"red": 60, "round": 30}
    assert found.num_groups == 20


def masks(tmp_path: Path, numbers: tuple[int, ...]) -> Path:
    fill(tmp_path / "images", {"all": 60})
    (tmp_path / "masks").mkdir()
    pixels = np.resize(np.array(numbers, np.uint8), (24, 30))
    for number in range(60):
        Image.fromarray(pixels).save(tmp_path / "masks" / f"{number}.png")
    rows = [f"images/all/{number:03d}.png,masks/{number}.png" for number in range(60)]
    return write_table(tmp_path / "list.csv", ["path,mask", *rows])


def test_a_table_with_masks_asks_for_each_pixel(tmp_path: Path):
    found = inspect_data(masks(tmp_path, (0, 2, 255)))
    assert found.problem == {"kind": "segmentation", "classes": ["background", "class-1", "class-2"]}
    assert found.source == Table(source="table", file=str(tmp_path / "list.csv"), labels=None, mask="mask")
    assert (found.maps, found.num_classes, found.counts) == (True, 3, {})


def test_masks_of_one_number_are_refused_with_the_reason(tmp_path: Path):
    with pytest.raises(ValueError, match=r"fewer than two class numbers or colours \(0\)"):
        inspect_data(masks(tmp_path, (0, 0)))


def test_what_is_refused(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"FOLDER = '.*nowhere' does not exist; name a folder of class folders"
    ):
        inspect_data(tmp_path / "nowhere")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(
        ValueError, match=r"FOLDER = '.*notes\.txt' is a file, .*\.csv, \.tsv or \.parquet table"
    ):
        inspect_data(tmp_path / "notes.txt")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="holds no class folders"):
        inspect_data(tmp_path / "empty")
    draw(tmp_path / "loose" / "a.png")
    with pytest.raises(ValueError, match=r"holds no class folders \(1 loose files\)"):
        inspect_data(tmp_path / "loose")
    with pytest.raises(ValueError, match="one class only, 'cat'"):
        inspect_data(fill(tmp_path / "single", {"cat": 80}))
    with pytest.raises(ValueError, match="holds 50 images; at least 60 are needed"):
        inspect_data(fill(tmp_path / "few", {"cat": 25, "dog": 25}))
    with pytest.raises(ValueError, match=r"class 'dog' has 5 images .* at least 6 are needed"):
        inspect_data(fill(tmp_path / "rare", {"cat": 70, "dog": 5}))


def test_columns_of_a_table_that_nobody_can_guess(tmp_path: Path):
    with pytest.raises(ValueError, match=r"list\.csv has the columns a, b; .*`path`$"):
        inspect_data(write_table(tmp_path / "list.csv", ["a,b", "1,2"]))
    with pytest.raises(
        ValueError, match=r"list\.csv has the columns path, b; .*`labels`, `mask` or `value`$"
    ):
        inspect_data(write_table(tmp_path / "list.csv", ["path,b", "1,2"]))


def test_the_column_whose_files_exist_has_the_paths(tmp_path: Path):
    fill(tmp_path, {"cat": 3, "dog": 3})
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.png"))
    lines = [f"/somewhere/{number},{file},{file[:3]}" for number, file in enumerate(files)]
    (tmp_path / "t.csv").write_text("\n".join(["path,image,label", *lines]))
    assert find_source(tmp_path / "t.csv").source.path == "image"


@pytest.mark.parametrize("column", ["target", "age"])
def test_a_column_of_numbers_asks_for_numbers(tmp_path: Path, column: str):
    fill(tmp_path, {"a": 80})
    lines = [
        f"a/{number:03d}.png,{20 + number * (1.37 if column == 'target' else 1)}" for number in range(80)
    ]
    (tmp_path / "t.csv").write_text("\n".join([f"path,{column}", *lines]))
    found = inspect_data(tmp_path / "t.csv")
    assert found.problem == {"kind": "regression"} and found.source.values == (column,)
    assert "problem regression: the column" in "\n".join(describe(found))
    text = make_text(found, SPEEDS, [], minutes=10, project="ages")
    params = parse(text)
    assert params.problem.kind == "regression" and "label_smoothing" not in text
    (drop, *_) = [rule.max_drop for rule in params.gate.rules]
    assert 1 < drop < 10, "a part of the mean distance from the median, which is 20 or more"
    assert " units, " in text


def test_numbers_of_classes_are_classes(tmp_path: Path):
    fill(tmp_path, {"a": 120})
    lines = [f"a/{number:03d}.png,{number % 4}" for number in range(120)]
    (tmp_path / "t.csv").write_text("\n".join(["path,label", *lines]))
    assert inspect_data(tmp_path / "t.csv").problem == {"kind": "multiclass"}


def test_files_of_which_none_is_an_image(tmp_path: Path):
    for name in ("cat", "dog"):
        (tmp_path / name).mkdir()
        for number in range(40):
            (tmp_path / name / f"{number}.jpg").write_bytes(b"no image")
    with pytest.raises(ValueError, match="80 of 80 sampled files"):
        inspect_data(tmp_path)


def test_paths_are_relative_where_both_lie_near_each_other(tmp_path: Path):
    found = inspect_data(fill(tmp_path / "data" / "pets", {"cat": 50, "dog": 30}))
    assert seen_from(found, tmp_path / "project").source.folder == "../data/pets"  # type: ignore[union-attr]
    assert seen_from(found, tmp_path / "data" / "pets" / ".." / "pets-project").source.folder == "../pets"  # type: ignore[union-attr]
    far = tmp_path / "a" / "b" / "c" / "project"
    assert seen_from(found, far).source.folder == str(tmp_path / "data" / "pets")  # type: ignore[union-attr]


def write_rows(folder: Path, rows: list[tuple[str, str, str]]) -> Path:
    for name, _, _ in rows:
        image(folder / name, hash(name) % 1000)
    lines = "".join(",".join(row) + "\n" for row in rows)
    (folder / "list.csv").write_text(f"path,label,split\n{lines}")
    return folder / "list.csv"


def test_splits_in_which_a_class_is_missing_are_told(tmp_path: Path):
    rows = [(f"{number}.png", "ab"[number % 2], ("train", "test")[number > 80]) for number in range(100)]
    with pytest.raises(ValueError, match=r"all 100 images are in the splits test; some must be in train"):
        inspect_data(write_rows(tmp_path, [(name, label, "test") for name, label, _ in rows]))
    only = [(name, "a" if split == "test" else label, split) for name, label, split in rows]
    with pytest.raises(ValueError, match=r"class 'b' has no example in the test split \(40 in train\)"):
        inspect_data(write_rows(tmp_path, only))


def test_an_empty_label_is_told_to_make_the_problem_multilabel(tmp_path: Path):
    rows = [(f"{number}.png", "ab"[number % 2] if number else "", "") for number in range(100)]
    found = inspect_data(write_rows(tmp_path, rows))
    assert found.problem == {"kind": "multilabel"}
    assert found.why_kind.startswith("1 have none; if that is a mistake, correct it")


def test_remarks_of_the_source_are_told(tmp_path: Path):
    split_folders(tmp_path / "images", "Training", "Testing")
    for place in ("Training", "Testing"):
        class_folders(tmp_path / "images" / place, count=40)
    found = inspect_data(tmp_path / "images")
    assert found.official == {"test": 80, "train": 80} and found.num_classes == 2
    assert any("guessed: 2 folders are splits" in line for line in describe(found))


def test_masks_of_0_and_255_have_two_classes(tmp_path: Path):
    for number in range(60):
        image(tmp_path / f"{number}.png", number, side=16)
        mask = np.zeros((16, 16), np.uint8)
        mask[:5] = 255
        Image.fromarray(mask).save(tmp_path / f"mask-{number}.png")
    lines = "".join(f"{number}.png,mask-{number}.png\n" for number in range(60))
    (tmp_path / "list.csv").write_text(f"path,mask\n{lines}")
    found = inspect_data(tmp_path / "list.csv")
    assert found.num_classes == 2 and found.mask_values == {0: "background", 255: "class-1"}
    params = parse(make_text(found, SPEEDS, (), minutes=10, project="x"))
    assert params.prepare.mask_values == {0: "background", 255: "class-1"}
