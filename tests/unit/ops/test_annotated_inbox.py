"""Images with .xml files or masks in the inbox: taken once with what is true of them, and never lost."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.config import load
from temper.data.dataset.rows import read_rows, write_rows
from temper.data.dataset.splits import assign_splits
from temper.data.sources import LISTED
from temper.ops.project import Project
from temper.problem import Row
from tests.outside.files import image, set_lines
from tests.project import make_project
from tests.unit.data.test_voc import write
from tests.unit.ops.test_table_inbox import Killed, kill_at, left, settle, take

CAT, DOG = ("cat", [2, 3, 20, 20]), ("dog", [5, 5, 19, 19])


def pixels(path: Path, seed: int, size: tuple[int, int] = (40, 30)) -> None:
    """Write an image of noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path, "PNG")


def voc_project(folder: Path, *, lists: bool = False, classes: str = "") -> Project:
    """Write a project with six annotated images in `data`."""
    project = make_project(folder, "detection")
    set_lines(project, ingest="{source: voc, folder: data}", problem=f"{{kind: detection{classes}}}")
    for number in range(6):
        write(project / "data", str(number), CAT, *([DOG] if number % 2 else []))
        pixels(project / "data" / "JPEGImages" / f"{number}.jpg", number)
    if lists:
        place = project / "data" / "ImageSets" / "Main"
        place.mkdir(parents=True)
        for name, stems in {"train": "0123", "val": "4", "test": "5"}.items():
            (place / f"{name}.txt").write_text("\n".join(stems))
    return Project.at(project)


def drop(project: Project, name: str, *boxes: tuple[str, list[float]], seed: int = 100) -> Path:
    """Put an image and its .xml file into the inbox; return the folder."""
    folder = project.folder / "inbox" / "labelled"
    scratch = project.folder / "scratch"
    write(scratch, "x", *boxes)
    place = folder / f"{name}.xml"
    place.parent.mkdir(parents=True, exist_ok=True)
    (scratch / "Annotations" / "x.xml").rename(place)
    pixels(folder / f"{name}.jpg", seed)
    settle(project)
    return folder


def rows(project: Project) -> dict[str, Row]:
    ingest = load(project.folder).ingest
    return {row.id: row for row in LISTED[ingest.source](ingest, project.folder).rows}


def new_rows(project: Project) -> list[Row]:
    return [row for name, row in rows(project).items() if re.search(r"-[0-9a-f]{12}", name)]


def test_an_image_and_its_annotation_are_taken_under_one_name(tmp_path: Path):
    project = voc_project(tmp_path)
    drop(project, "week/new", CAT, DOG)
    taken = take(project)
    assert taken.moved == {"with boxes": 1}, taken.words()
    (row,) = new_rows(project)
    assert row.id.startswith("JPEGImages/new-") and row.labels == ("cat", "dog") and len(rows(project)) == 7
    stem = Path(row.id).stem
    assert (project.folder / "data" / "Annotations" / f"{stem}.xml").is_file()
    assert left(project) == [] and take(project).words() == "the inbox contains no new examples"


def test_files_in_other_folders_are_found_by_name(tmp_path: Path):
    project = voc_project(tmp_path)
    folder = drop(project, "JPEGImages/new", CAT)
    (folder / "Annotations").mkdir()
    (folder / "JPEGImages" / "new.xml").rename(folder / "Annotations" / "new.xml")
    drop(project, "a/same", CAT, seed=101)
    drop(project, "b/same", DOG, seed=102)
    assert take(project).moved == {"with boxes": 3}
    assert sorted(row.labels for row in new_rows(project)) == [("cat",), ("cat",), ("dog",)]


def test_new_images_are_trained_with_if_lists_name_the_splits(tmp_path: Path):
    project = voc_project(tmp_path, lists=True)
    drop(project, "new", CAT)
    assert "1 new images are in no list of ImageSets/Main, so they are trained with" in take(project).words()
    (row,) = new_rows(project)
    assert row.split is None
    listed = list(rows(project).values())
    write_rows(listed, tmp_path / "rows.parquet")
    strata = [frozenset(each.labels) for each in listed]
    for seed in range(5):
        splits = assign_splits(
            read_rows(tmp_path / "rows.parquet"),
            strata,
            validation_share=0.5,
            test_share=0.5,
            seed=seed,
            kept=None,
        )
        assert splits[listed.index(row)] == "train"


def test_new_boxes_go_to_the_training_folder(tmp_path: Path):
    project = voc_project(tmp_path)
    data = project.folder / "data"
    (data / "test").mkdir()
    for folder in ("Annotations", "JPEGImages"):
        (data / folder).rename(data / "test" / folder)
    for number in range(2):
        write(data / "train", f"x{number}", CAT)
        pixels(data / "train" / "JPEGImages" / f"x{number}.jpg", 50 + number)
    drop(project, "new", CAT)
    assert "1 new images went into train/JPEGImages, whose split is train" in take(project).words()
    assert [(row.id[:21], row.split) for row in new_rows(project)] == [("train/JPEGImages/new-", "train")]


def test_files_without_a_counterpart_stay(tmp_path: Path):
    project = voc_project(tmp_path)
    folder = drop(project, "a", CAT)
    (folder / "a.jpg").unlink()
    pixels(folder / "b.png", 7)
    (folder / "notes.txt").write_text("x")
    settle(project)
    taken = take(project)
    assert not taken.moved and sorted(taken.unsorted) == ["labelled/a.xml", "labelled/b.png"]
    assert "an .xml file" in taken.words() and taken.litter == ["notes.txt"]
    assert left(project) == ["a.xml", "b.png", "notes.txt"]


def test_annotations_that_cannot_be_read_stay_with_the_reason(tmp_path: Path):
    project = voc_project(tmp_path)
    folder = drop(project, "a", CAT)
    drop(project, "b", CAT, seed=8)
    drop(project, "c", ("cat", [0, 3, 20, 20]), seed=9)
    (folder / "a.xml").write_text("<annotation><object>")
    (folder / "b.xml").write_text("<catalog/>")
    settle(project)
    taken = take(project)
    assert [each.partition(":")[0] for each in taken.refused] == ["a.xml", "b.xml", "c.xml"]
    assert "is no XML" in taken.refused[0] and "not <annotation>" in taken.refused[1]
    assert "begins at pixel 0, but the boxes of the dataset were taken to count from 1" in taken.refused[2]
    assert len(left(project)) == 6 and not taken.unsorted
    set_lines(project.folder, ingest="{source: voc, folder: data, first_pixel: 1}")
    assert take(project).moved == {"with boxes": 1}


def test_boxes_that_are_left_out_are_told(tmp_path: Path):
    project = voc_project(tmp_path)
    drop(project, "a", CAT, ("dog", [7, 7, 7, 7]), ("dog", [90, 7, 99, 9]))
    said = take(project).words()
    assert "left out: 1 boxes are points" in said and "left out: 1 boxes lie outside their image" in said
    assert [row.labels for row in new_rows(project)] == [("cat",)]


def test_other_spellings_and_new_classes(tmp_path: Path):
    project = voc_project(tmp_path)
    drop(project, "a", ("Cat", [2, 3, 20, 20]), ("owl", [2, 3, 20, 20]))
    drop(project, "b", ("Cat", [2, 3, 20, 20]), seed=101)
    taken = take(project)
    assert (
        taken.moved == {"with boxes": 1} and taken.strange == {"owl": 1} and taken.renamed == {"Cat": "cat"}
    )
    (row,) = new_rows(project)
    assert row.labels == ("cat",) and json.loads(row.truth or "")["boxes"][0]["label"] == "cat"
    assert left(project) == ["a.jpg", "a.xml"]
    path = project.folder / "params.yaml"
    path.write_text(path.read_text() + "retrain: {new_classes: allow}\n")
    assert take(project).strange == {"owl": 1}, "three images are needed"
    for number in range(2):
        drop(project, f"more-{number}", ("owl", [2, 3, 20, 20]), seed=200 + number)
    assert take(project).moved == {"with boxes": 3}
    assert sum("owl" in row.labels for row in rows(project).values()) == 3


def test_what_the_dataset_has_or_says_otherwise_is_put_aside_together(tmp_path: Path):
    project = voc_project(tmp_path)
    drop(project, "same", CAT, seed=0)
    drop(project, "other", DOG, seed=0)
    folder = drop(project, "damaged", CAT)
    (folder / "damaged.jpg").write_bytes(b"\x89PNG nothing")
    settle(project)
    taken = take(project)
    assert taken.known == 1 and taken.disputed == ["other.jpg is JPEGImages/0.jpg"] and not taken.moved
    assert taken.unusable[0].startswith("damaged.jpg: ") and "with another set of boxes" in taken.words()
    aside = [name for name in left(project, "aside") if name != "reasons.csv"]
    assert left(project) == [] and len(aside) == 6
    assert len({Path(name).stem for name in aside}) == 3, "image and annotation keep one name"


def test_what_is_still_being_copied_waits(tmp_path: Path):
    project = voc_project(tmp_path)
    folder = drop(project, "a", CAT)
    (folder / "a.xml").touch()
    pixels(folder / "b.jpg", 5)
    taken = take(project)
    assert taken.fresh == 2 and not taken.moved and not taken.unsorted


def test_an_inbox_inside_the_data_is_refused(tmp_path: Path):
    project = voc_project(tmp_path)
    path = project.folder / "params.yaml"
    path.write_text(path.read_text() + "retrain: {inbox: data/inbox}\n")
    drop(project, "a", CAT)
    (project.folder / "inbox").rename(project.folder / "data" / "inbox")
    with pytest.raises(ValueError, match=r"the inbox must not be inside the data folder 'data'"):
        take(project)


def mask_project(folder: Path, *places: str) -> Project:
    """Write a project with a mask for each image; places are those of images and masks, with `{}`."""
    project = make_project(folder, "segmentation")
    set_lines(project, ingest="{source: masks, folder: data}", problem="{kind: segmentation}")
    path = project / "params.yaml"
    values = 'prepare: {mask_values: {"#000000": ground, "#ff0000": cell}, '
    path.write_text(path.read_text().replace("prepare: {", values))
    for number in range(4):
        image(project / "data" / places[0].format(number), number, side=16)
        draw_mask(project / "data" / places[1].format(number), number)
    return Project.at(project)


def draw_mask(path: Path, line: int, colour: tuple[int, int, int] = (255, 0, 0)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    mask = np.zeros((16, 16, 3), np.uint8)
    mask[line] = colour
    Image.fromarray(mask).save(path)


def drop_mask(project: Project, name: str, mask: str, seed: int = 100, **options: object) -> Path:
    folder = project.folder / "inbox" / "labelled"
    image(folder / name, seed, side=16)
    draw_mask(folder / mask, 5, **options)  # type: ignore[arg-type]
    settle(project)
    return folder


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (("image/{}.png", "label/{}.png"), r"image/new-[0-9a-f]{12}\.png label/new-[0-9a-f]{12}\.png"),
        (("a/{}.png", "a/{}_mask.png"), r"a/new-[0-9a-f]{12}\.png a/new-[0-9a-f]{12}_mask\.png"),
    ],
)
@pytest.mark.parametrize("dropped", [("images/new.png", "masks/new.png"), ("w/new.png", "w/new_mask.png")])
def test_images_with_masks_are_taken(
    tmp_path: Path, places: tuple[str, str], expected: str, dropped: tuple[str, str]
):
    project = mask_project(tmp_path, *places)
    drop_mask(project, *dropped)
    taken = take(project)
    assert taken.moved == {"with masks": 1}, taken.words()
    (row,) = new_rows(project)
    assert re.fullmatch(expected, f"{row.id} {row.mask}".replace("images.zip/", ""))
    assert left(project) == [] and len(rows(project)) == 5


def test_new_images_with_masks_go_to_the_training_folder(tmp_path: Path):
    project = mask_project(tmp_path, "test/images/{}.png", "test/masks/{}.png")
    for number in range(4):
        image(project.folder / "data" / "train" / "images" / f"{number}.png", 50 + number, side=16)
        draw_mask(project.folder / "data" / "train" / "masks" / f"{number}.png", number)
    drop_mask(project, "images/new.png", "masks/new.png")
    assert "1 new images went into train/images, whose split is train" in take(project).words()
    assert [row.split for row in new_rows(project)] == ["train"]


def test_masks_that_do_not_fit_are_put_aside_or_stay(tmp_path: Path):
    project = mask_project(tmp_path, "images/{}.png", "masks/{}.png")
    drop_mask(project, "images/blue.png", "masks/blue.png", colour=(0, 0, 255))
    drop_mask(project, "images/same.png", "masks/same.png", 0)
    image(project.folder / "inbox" / "labelled" / "images" / "alone.png", 77, side=16)
    draw_mask(project.folder / "inbox" / "labelled" / "masks" / "lonely.png", 3)
    settle(project)
    taken = take(project)
    assert "the colour #0000ff (16 px), which prepare.mask_values does not name" in taken.unusable[0]
    assert taken.disputed == ["images/same.png is images/0.png"] and not taken.moved
    assert taken.unsorted == ["labelled/images/alone.png", "labelled/masks/lonely.png"]
    assert len([name for name in left(project, "aside") if name != "reasons.csv"]) == 4


def boxes_batch(folder: Path) -> Project:
    """A batch of which two images are new, one is known, and one is spelled otherwise."""
    project = voc_project(folder)
    drop(project, "a", CAT)
    drop(project, "b", DOG, seed=101)
    drop(project, "known", CAT, seed=0)
    drop(project, "c", ("Dog", [5, 5, 19, 19]), seed=102)
    return project


def masks_batch(folder: Path) -> Project:
    """A batch of which two images are new, and one is disputed."""
    project = mask_project(folder, "images/{}.png", "masks/{}.png")
    drop_mask(project, "images/a.png", "masks/a.png")
    drop_mask(project, "images/b.png", "masks/b.png", 101)
    drop_mask(project, "images/same.png", "masks/same.png", 0)
    return project


def state(project: Project) -> tuple[object, ...]:
    """Return the dataset's examples, and the files of the dataset, of the inbox and of what is put aside."""
    found = {name: (row.labels, row.truth, row.mask) for name, row in rows(project).items()}
    files = (path.relative_to(project.folder).as_posix() for path in (project.folder / "data").rglob("*"))
    # A copy that was interrupted leaves a hidden file, which no source reads.
    data = sorted(name for name in files if "/." not in name)
    return found, data, left(project), left(project, "aside")


def check_kills(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: Callable[[Path], Project],
    *,
    linked: bool,
    after: bool,
) -> None:
    """Kill the import of a batch at each of its steps, and compare what two further runs make of it.

    Args:
        tmp_path: Folder for the projects.
        monkeypatch: What replaces the steps.
        batch: Writes a project with a full inbox.
        linked: Whether the disk has hard links.
        after: Whether the kill comes after the step, not before it.
    """
    whole = batch(tmp_path / "whole")
    before = {path.read_bytes() for path in whole.folder.rglob("*.*g")}
    take(whole)
    for number in range(100):
        project = batch(tmp_path / str(number))
        with monkeypatch.context() as patch:
            calls = kill_at(number, patch, after=after, linked=linked)
            try:
                take(project)
            except Killed:
                pass
            else:
                break
        settle(project)
        assert before <= {path.read_bytes() for path in project.folder.rglob("*.*g")}, "an image was lost"
        again = take(project)
        settle(project)
        take(project)
        where = f"{calls[-1]} at {number}: {again.words()}"
        assert state(project)[:3] == state(whole)[:3], where
        if linked:
            assert state(project) == state(whole), where
    assert number > 12, "steps were missed"


@pytest.mark.parametrize("batch", [boxes_batch, masks_batch])
@pytest.mark.parametrize("linked", [True, False])
@pytest.mark.parametrize("after", [True, False])
def test_a_kill_at_any_step_loses_nothing_and_takes_nothing_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: Callable[[Path], Project],
    linked: bool,
    after: bool,
):
    check_kills(tmp_path, monkeypatch, batch, linked=linked, after=after)
