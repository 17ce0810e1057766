"""What changed is noticed: content behind equal names, links, deleted files, masks."""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from temper.config import load
from temper.ops import dvc
from temper.ops.pipeline import plan
from temper.ops.project import Project
from temper.stages import source_files
from tests.outside.files import class_folders, image, set_lines
from tests.project import ROOT, make_project


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    project = make_project(tmp_path / "project", "multiclass")
    set_lines(project, ingest="{source: imagefolder, folder: images}")
    class_folders(project / "images")
    return project


@pytest.fixture
def table(tmp_path: Path) -> Path:
    project = make_project(tmp_path / "project", "segmentation")
    set_lines(project, ingest="{source: table, file: data/t.csv, labels: null, mask: mask}")
    for number in range(4):
        image(project / "data" / f"{number}.png", number)
        image(project / "data" / f"mask-{number}.png", 50 + number)
    lines = "".join(f"{number}.png,mask-{number}.png\n" for number in range(4))
    (project / "data" / "t.csv").write_text(f"path,mask\n{lines}")
    return project


def digest(project: Path) -> str:
    source_files.update(project, load(project).ingest)
    return (project / source_files.FILE).read_text()


def _overwrite(project: Path) -> None:
    place = project / "images" / "cat" / "0.png"
    times = place.stat().st_atime_ns, place.stat().st_mtime_ns
    content = place.read_bytes()
    place.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    os.utime(place, ns=times)  # the same size and time, as some copying programs leave them


CHANGES: dict[str, Callable[[Path], object]] = {
    "a new image": lambda project: image(project / "images" / "cat" / "new.png", 9),
    "an overwritten image of equal size and time": _overwrite,
    "a deleted image": lambda project: (project / "images" / "cat" / "0.png").unlink(),
    "an image in another class": lambda project: (project / "images" / "cat" / "0.png").rename(
        project / "images" / "dog" / "cat.png"
    ),
}


@pytest.mark.parametrize("what", CHANGES)
def test_changes_of_a_folder_are_noticed(folder: Path, what: str):
    before = digest(folder)
    CHANGES[what](folder)
    assert digest(folder) != before


@pytest.mark.parametrize("name", ["data/1.png", "data/mask-1.png", "data/t.csv"])
def test_changes_behind_the_names_of_a_table_are_noticed(table: Path, name: str):
    before = digest(table)
    with (table / name).open("ab") as stream:
        stream.write(b"\n")
    assert digest(table) != before


def test_files_of_annotations_of_one_name_are_all_watched(tmp_path: Path):
    project = make_project(tmp_path / "project", "detection")
    set_lines(project, ingest="{source: yolo, folder: data}")
    for split in ("train", "val"):
        image(project / "data" / split / "images" / "a.png")
        (project / "data" / split / "labels").mkdir()
        (project / "data" / split / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    seen = {digest(project)}
    for split in ("train", "val"):
        (project / "data" / split / "labels" / "a.txt").write_text("0 0.5 0.5 0.25 0.5\n")
        seen.add(digest(project))
    assert len(seen) == 3


def test_a_touched_or_copied_file_is_no_change(folder: Path):
    before = digest(folder)
    for path in (folder / "images").rglob("*.png"):
        os.utime(path)
    assert digest(folder) == before
    shutil.copytree(folder / "images", folder / "copy")
    shutil.rmtree(folder / "images")
    (folder / "copy").rename(folder / "images")
    (folder / "images" / "cat" / "desktop.ini").write_text("litter is no change either")
    assert digest(folder) == before


def test_what_a_link_leads_to_is_watched(folder: Path):
    outside = folder.parent / "outside"
    class_folders(outside, names=["owl"])
    (folder / "images" / "owl").symlink_to(outside / "owl", target_is_directory=True)
    before = digest(folder)
    image(outside / "owl" / "new.png", 9)
    assert digest(folder) != before


@pytest.mark.parametrize("damage", [b"", b"words"])
def test_a_damaged_memory_is_made_again(folder: Path, damage: bytes):
    before = digest(folder)
    (folder / ".temper" / "files.parquet").write_bytes(damage)
    assert digest(folder) == before


def test_the_plan_and_dvc_alone_notice_a_repainted_mask(table: Path):
    project = Project.at(table)
    dvc.prepare(project)
    dvc.write_dvc_yaml(project, load(table))

    def reasons() -> tuple[str, ...]:
        return plan.make(project, load(table))[0].reasons

    assert reasons() == ("never ran",)
    assert dvc.repro(project, "ingest").state == "ran"
    assert reasons() == ()
    image(table / "data" / "mask-2.png", 99)
    assert reasons() == ("data that ingest reads changed",)
    assert dvc.repro(project, "ingest").state == "ran"

    image(table / "data" / "mask-3.png", 98)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "DVC_NO_ANALYTICS": "1"}
    done = subprocess.run(
        ["dvc", "repro", "ingest"], cwd=table, env=environment, capture_output=True, text=True, check=True
    )
    assert "Running stage 'ingest'" in done.stdout
    assert reasons() == ()


def test_errors_of_a_source_are_told_before_anything_starts(folder: Path):
    project = Project.at(folder)
    dvc.prepare(project)
    (folder / "images" / "empty").mkdir()
    with pytest.raises(ValueError, match=r"the class folder .*empty is empty"):
        plan.make(project, load(folder))
