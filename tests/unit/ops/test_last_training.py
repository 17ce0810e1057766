"""What differs between the current examples and those of the last training."""

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper import artifacts
from temper.config import load
from temper.ops.project import Project
from temper.ops.release import split_history
from temper.ops.retraining import last_training
from temper.ops.retraining.last_training import Differences
from tests.project import make_project, run_in_process, run_until

CLASSES = ("cat", "dog")


def write_image(path: Path, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (16, 16, 3), np.uint8)).save(path)


def with_source(folder: Path, kind: str, source: str) -> Project:
    project = make_project(folder, kind)
    text = (project / "params.yaml").read_text()
    start = text.index("ingest:")
    (project / "params.yaml").write_text(
        f"{text[:start]}ingest: {source}{text[text.index(chr(10), start) :]}"
    )
    return Project.at(project)


def trained(project: Project) -> Project:
    run_until(project.folder, "prepare")
    last_training.record(project)
    return project


def differences(project: Project) -> Differences:
    run_in_process(project.folder, "ingest")
    split_history.save_splits(project, load(project.folder))
    run_in_process(project.folder, "prepare")
    found = last_training.compare(project)
    assert found is not None
    return found[1]


@pytest.fixture
def folders(tmp_path: Path) -> Project:
    project = with_source(tmp_path / "project", "multiclass", "{source: imagefolder, folder: images}")
    for number, name in enumerate(CLASSES):
        for image in range(30):
            write_image(project.folder / "images" / name / f"{image}.png", 100 * number + image)
    return trained(project)


def test_the_same_files_do_not_differ(folders: Project):
    assert differences(folders) == Differences()


def test_files_moved_to_another_class_are_relabelled(folders: Project):
    for image in range(8):
        old = folders.folder / "images" / "cat" / f"{image}.png"
        old.rename(folders.folder / "images" / "dog" / f"cat-{image}.png")
    found = differences(folders)
    assert (found.new, found.relabelled, found.gone) == (0, 8, 0)
    assert str(found) == "0 new training examples, 8 relabelled"


def test_overwritten_files_are_replaced(folders: Project):
    for image in range(5):
        write_image(folders.folder / "images" / "cat" / f"{image}.png", 1000 + image)
    found = differences(folders)
    assert (found.new, found.replaced, found.relabelled, found.gone) == (0, 5, 0, 0)


def test_a_renamed_file_is_the_same_example(folders: Project):
    place = folders.folder / "images" / "cat"
    (place / "0.png").rename(place / "zero.png")
    assert differences(folders) == Differences(other=True)


def test_a_new_class_relabels_nobody(folders: Project):
    for image in range(10):
        write_image(folders.folder / "images" / "ape" / f"{image}.png", 500 + image)
    found = differences(folders)
    assert found.relabelled == found.replaced == found.gone == 0
    assert 0 < found.new < 10, "only those in the training split"


def test_removed_files_are_gone(folders: Project):
    for image in range(10):
        (folders.folder / "images" / "dog" / f"{image}.png").unlink()
    found = differences(folders)
    assert found.new == found.relabelled == 0 and 0 < found.gone <= 10


def test_labels_edited_in_a_table_are_relabelled(tmp_path: Path):
    project = with_source(
        tmp_path / "project", "multiclass", "{source: table, file: images.csv, labels: label}"
    )
    rows = [[f"{image}.png", CLASSES[image % 2]] for image in range(60)]
    for image in range(60):
        write_image(project.folder / f"{image}.png", image)

    def write_table() -> None:
        with (project.folder / "images.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([["path", "label"], *rows])

    write_table()
    trained(project)
    for image in range(10):
        rows[image][1] = CLASSES[1 - image % 2]
    write_table()
    found = differences(project)
    assert (found.new, found.relabelled, found.gone) == (0, 10, 0)


def test_masks_repainted_in_place_are_relabelled(tmp_path: Path):
    source = "{source: table, file: images.csv, labels: null, mask: mask}"
    project = with_source(tmp_path / "project", "segmentation", source)
    text = (project.folder / "params.yaml").read_text().replace(", square, triangle, cross]", "]")
    (project.folder / "params.yaml").write_text(text)

    def write_mask(image: int, side: int) -> None:
        mask = np.zeros((16, 16), np.uint8)
        mask[:side, :side] = 1
        Image.fromarray(mask).save(project.folder / f"mask-{image}.png")

    for image in range(60):
        write_image(project.folder / f"{image}.png", image)
        write_mask(image, 6)
    with (project.folder / "images.csv").open("w", newline="") as stream:
        lines = [[f"{image}.png", f"mask-{image}.png"] for image in range(60)]
        csv.writer(stream).writerows([["path", "mask"], *lines])
    trained(project)
    for image in range(24):
        write_mask(image, 9)
    found = differences(project)
    assert (found.new, found.relabelled, found.replaced, found.gone) == (0, 24, 0, 0)


@pytest.mark.parametrize("damage", ["missing", "cut off", "not a table"])
def test_a_damaged_record_is_no_record(folders: Project, damage: str):
    record = folders.hidden / last_training.FILE
    if damage == "missing":
        record.unlink()
    else:
        record.write_bytes(record.read_bytes()[:-40] if damage == "cut off" else b"words")
    assert last_training.compare(folders) is None


def test_one_image_in_colour_among_grey_ones_is_one_new_image(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    project = with_source(tmp_path / "project", "multiclass", "{source: imagefolder, folder: images}")

    def write(name: str, seed: int, mode: str) -> None:
        write_image(project.folder / "images" / name, seed)
        Image.open(project.folder / "images" / name).convert(mode).save(project.folder / "images" / name)

    for number in range(60):
        write(f"{CLASSES[number % 2]}/{number}.png", number, "L")
    trained(project)
    write("cat/colour.png", 200, "RGB")
    write("dog/grey.png", 201, "L")
    found = differences(project)
    assert found.new <= 2 and (found.replaced, found.relabelled, found.gone) == (0, 0, 0)
    said = "prepare: converted: 1 images in colour became grey"
    assert said in capsys.readouterr().err
    prepared = artifacts.load("prepare", project.artifacts / "prepare")
    assert prepared.facts["inputs"][0]["channels"] == 1
    assert "images in colour became grey" in prepared.path("report.html").read_text()
    path = project.folder / "params.yaml"
    path.write_text(path.read_text().replace("prepare: {", "prepare: {mode: colour, "))
    run_in_process(project.folder, "prepare")
    assert artifacts.load("prepare", project.artifacts / "prepare").facts["inputs"][0]["channels"] == 3
