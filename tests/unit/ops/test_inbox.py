"""New images are moved once, never lost and never imported twice."""

import os
import re
import time
from pathlib import Path

import pytest

from temper.config import Params, load
from temper.ops.project import Project
from temper.ops.retraining import inbox
from tests.project import TEMPLATE, make_project


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = make_project(tmp_path / "project", "multiclass")
    text = (folder / "params.yaml").read_text()
    start = text.index("ingest:")
    text = text[:start] + "ingest: {source: imagefolder, folder: images}" + text[text.index("\n", start) :]
    (folder / "params.yaml").write_text(text)
    for name in ("cat", "dog"):
        put(folder / "images" / name / "first.png", f"first {name}")
    return Project.at(folder)


def put(path: Path, content: str, *, age_s: float = 10.0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


def take(project: Project) -> inbox.Taken:
    params: Params = load(project.folder)
    return inbox.import_new(project, params)


def test_new_images_move_into_the_data(project: Project):
    place = project.folder / "inbox" / "labelled"
    put(place / "cat" / "a.PNG", "new cat")
    for number in range(3):
        put(place / "emu" / f"{number}.png", f"emu {number}")
    put(place / "emu" / ".hidden", "still being copied")
    taken = take(project)
    assert taken.moved == {"cat": 1, "emu": 3}
    assert taken.words().endswith("4 new images from the inbox (1 cat, 3 emu)")
    found = sorted(
        path.relative_to(project.folder / "images").as_posix()
        for path in (project.folder / "images").rglob("*.png")
    )
    assert len(found) == 6 and found[0].startswith("cat/a-") and found[-1].startswith("emu/2-")
    assert [path.name for path in place.rglob("*") if path.is_file()] == [".hidden"]
    assert take(project).words().endswith("no new images")


def test_a_class_that_nobody_knows_is_left_and_named(project: Project):
    stray = put(project.folder / "inbox" / "labelled" / "nosuchclass" / "a.png", "stray")
    put(project.folder / "inbox" / "labelled" / "cat" / "a.png", "new cat")
    taken = take(project)
    assert (
        taken.moved == {"cat": 1}
        and stray.is_file()
        and not (project.folder / "images" / "nosuchclass").exists()
    )
    assert re.search("left 1 nosuchclass: .*no such class.*at least 3 images", taken.words())


def test_a_source_with_official_splits_takes_them_as_training_images(project: Project):
    images = project.folder / "images"
    (project.folder / "train").mkdir()
    for path in images.iterdir():
        path.rename(project.folder / "train" / path.name)
    (project.folder / "train").rename(images / "train")
    put(project.folder / "inbox" / "labelled" / "cat" / "a.png", "new cat")
    take(project)
    assert len(list((images / "train" / "cat").iterdir())) == 2


def test_what_is_known_is_put_aside(project: Project):
    place = project.folder / "inbox"
    put(place / "labelled" / "cat" / "again.png", "first cat")
    put(place / "labelled" / "cat" / "twice.png", "new")
    put(place / "labelled" / "cat" / "twice too.png", "new")
    put(place / "labelled" / "dog" / "a cat.png", "first cat")
    taken = take(project)
    assert (taken.moved, taken.known) == ({"cat": 1}, 2)
    assert taken.disputed == ["dog/a cat.png is cat/first.png"]
    assert "another class: dog/a cat.png is cat/first.png" in taken.words()
    assert len([path for path in (place / "aside").rglob("*") if path.is_file()]) == 3
    assert not [path for path in (place / "labelled").rglob("*") if path.is_file()]


def test_what_may_still_be_being_copied_is_left(project: Project):
    fresh = put(project.folder / "inbox" / "labelled" / "cat" / "a.png", "half", age_s=0.1)
    taken = take(project)
    assert taken.fresh == 1 and not taken.moved and fresh.is_file()
    assert "left 1 that changed within the last 2 s" in taken.words()


def test_a_source_that_cannot_take_them_says_so(tmp_path: Path):
    project = Project.at(make_project(tmp_path / "toys", "multiclass"))
    assert take(project).words().endswith("no new images")
    put(project.folder / "inbox" / "labelled" / "cat" / "a.png", "cat")
    with pytest.raises(
        ValueError, match=r"ingest\.source = toys: .*imagefolder.* 1 files in .*inbox/labelled"
    ):
        take(project)


def test_recent_images_without_labels_the_newest_last(project: Project):
    place = project.folder / "inbox" / "unlabelled"
    for name, age_s in (("b", 30.0), ("a", 10.0), ("c", 20.0)):
        put(place / name, name, age_s=age_s)
    assert [path.name for path in inbox.unlabelled(project, load(project.folder))] == ["b", "c", "a"]


def test_the_template_has_what_this_test_replaces():
    assert "ingest: {{source: toys" in TEMPLATE


def test_an_inbox_in_the_data_is_refused(project: Project):
    text = (project.folder / "params.yaml").read_text()
    (project.folder / "params.yaml").write_text(text + "retrain: {inbox: images}\n")
    put(project.folder / "images" / "labelled" / "cat" / "a.png", "new cat")
    with pytest.raises(ValueError, match=r"retrain\.inbox = 'images': .*inside the data folder 'images'"):
        take(project)
