"""New images are moved once, never lost and never imported twice."""

import errno
import os
import re
import time
import zlib
from pathlib import Path

import pytest

from temper.config import Params, load
from temper.ops.project import Project
from temper.ops.retraining import inbox
from tests.outside.files import image
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
    """Write an image that depends on `content` only, or a text if it is called so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".png":
        image(path, zlib.crc32(content.encode()))
    else:
        path.write_text(content)
    os.utime(path, (time.time() - age_s, time.time() - age_s))
    return path


def allow_new_classes(project: Project) -> None:
    with (project.folder / "params.yaml").open("a") as params:
        params.write("retrain: {new_classes: allow}\n")


def take(project: Project) -> inbox.Taken:
    params: Params = load(project.folder)
    return inbox.import_new(project, params)


def test_new_images_move_into_the_data(project: Project):
    allow_new_classes(project)
    place = project.folder / "inbox" / "labelled"
    put(place / "cat" / "a.PNG", "new cat")
    for number in range(3):
        put(place / "emu" / f"{number}.png", f"emu {number}")
    put(place / "emu" / ".hidden", "still being copied")
    taken = take(project)
    assert taken.moved == {"cat": 1, "emu": 3}
    assert "4 new examples from the inbox (1 cat, 3 emu); left 1 hidden" in taken.words()
    found = sorted(
        path.relative_to(project.folder / "images").as_posix()
        for path in (project.folder / "images").rglob("*.png")
    )
    assert len(found) == 6 and found[0].startswith("cat/a-") and found[-1].startswith("emu/2-")
    assert [path.name for path in place.rglob("*") if path.is_file()] == [".hidden"]
    assert take(project).words().startswith("the inbox contains no new examples; left 1 hidden")


def test_a_class_that_nobody_knows_is_left_and_named(project: Project):
    stray = put(project.folder / "inbox" / "labelled" / "nosuchclass" / "a.png", "stray")
    put(project.folder / "inbox" / "labelled" / "cat" / "a.png", "new cat")
    taken = take(project)
    assert (
        taken.moved == {"cat": 1}
        and stray.is_file()
        and not (project.folder / "images" / "nosuchclass").exists()
    )
    assert re.search("left 1 nosuchclass: .*no such class.*retrain.new_classes: allow", taken.words())
    allow_new_classes(project)
    assert re.search("left 1 nosuchclass: .*no such class.*at least 3 images", take(project).words())


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
    assert len(list((place / "aside").rglob("*.png"))) == 3
    assert not [path for path in (place / "labelled").rglob("*") if path.is_file()]


def test_a_name_may_have_many_bytes_in_few_letters(project: Project):
    """A name of 80 Chinese letters has 240 bytes, and a file system takes 255."""
    name = "\u5b57" * 80 + ".png"
    put(project.folder / "inbox" / "labelled" / "cat" / name, "new")
    put(project.folder / "inbox" / "labelled" / "dog" / name, "first cat")
    taken = take(project)
    assert taken.moved == {"cat": 1} and len(taken.disputed) == 1
    (moved,) = [path for path in (project.folder / "images" / "cat").iterdir() if "\u5b57" in path.name]
    assert moved.name.startswith("\u5b57" * 50) and moved.suffix == ".png"


def test_what_may_still_be_being_copied_is_left(project: Project):
    fresh = put(project.folder / "inbox" / "labelled" / "cat" / "a.png", "half", age_s=0.1)
    taken = take(project)
    assert taken.fresh == 1 and not taken.moved and fresh.is_file()
    assert "left 1 that changed within the last 2 s" in taken.words()


def test_a_source_that_cannot_take_them_says_so(tmp_path: Path):
    project = Project.at(make_project(tmp_path / "toys", "multiclass"))
    assert take(project).words().endswith("no new examples")
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


def test_only_what_prepare_can_read_is_taken(project: Project):
    place = project.folder / "inbox" / "labelled" / "cat"
    put(place / "a.png", "new cat")
    put(place / "words.jpg", "just words")
    (place / "cut.png").write_bytes(put(place / "whole.png", "whole").read_bytes()[:100])
    os.utime(place / "cut.png", (time.time() - 10,) * 2)
    for name in ("b.png.part", "c.crdownload", "Thumbs.db", "desktop.ini"):
        put(place / name, "junk")
    taken = take(project)
    assert taken.moved == {"cat": 2} and len(taken.unusable) == 2 and len(taken.litter) == 4
    assert "moved 2 to aside/ in the inbox that cannot be read: cat/cut.png: damaged" in taken.words()
    reasons = (project.folder / "inbox" / "aside" / "reasons.csv").read_text().splitlines()
    assert reasons[0] == "file,reason,time" and "not an image in a known format" in reasons[2]
    assert {path.suffix for path in (project.folder / "images").rglob("*") if path.is_file()} == {".png"}


def test_files_without_a_class_and_in_deep_folders_are_told_or_taken(project: Project):
    place = project.folder / "inbox" / "labelled"
    put(place / "loose.png", "loose")
    put(place / "cat" / "2026" / "deep.png", "deep")
    taken = take(project)
    assert taken.moved == {"cat": 1} and taken.unsorted == ["labelled/loose.png"]


def test_files_and_folders_beside_labelled_are_named(project: Project):
    place = project.folder / "inbox"
    put(place / "loose.png", "loose")
    put(place / "cat" / "a.png", "new cat")
    (place / "Thumbs.db").write_bytes(b"x")
    taken = take(project)
    assert taken.moved == {} and taken.unsorted == ["cat/", "loose.png"]
    words = "left 2 files or folders that are in no class folder, or in two: cat/, loose.png; move them into"
    assert words in taken.words()


def test_a_class_within_another_class_is_left(project: Project):
    put(project.folder / "inbox" / "labelled" / "cat" / "Dog" / "a.png", "cat or dog")
    taken = take(project)
    assert taken.moved == {} and taken.unsorted == ["labelled/cat/Dog/a.png"]


def test_known_classes_below_a_new_one_are_left(project: Project):
    allow_new_classes(project)
    for number in range(4):
        put(project.folder / "inbox" / "labelled" / "batch1" / "cat" / f"{number}.png", f"cat {number}")
    taken = take(project)
    assert taken.moved == {} and len(taken.unsorted) == 4


def test_another_spelling_of_a_class_is_that_class(project: Project):
    put(project.folder / "inbox" / "labelled" / "Cat" / "a.png", "new cat")
    taken = take(project)
    assert taken.moved == {"cat": 1} and "took Cat for the class cat" in taken.words()
    assert sorted(path.name for path in (project.folder / "images").iterdir()) == ["cat", "dog"]


def test_what_a_link_leads_to_is_copied(project: Project):
    target = put(project.folder / "camera" / "a.png", "new cat")
    place = project.folder / "inbox" / "labelled" / "cat"
    place.mkdir(parents=True)
    (place / "link.png").symlink_to("../../../camera/a.png")
    (place / "gone.png").symlink_to("nowhere.png")
    taken = take(project)
    [new] = [path for path in (project.folder / "images" / "cat").iterdir() if path.name != "first.png"]
    assert not new.is_symlink() and new.read_bytes() == target.read_bytes() and target.is_file()
    assert not (place / "link.png").is_symlink() and taken.litter == ["cat/gone.png"]


def test_data_on_another_disk_are_copied(project: Project, monkeypatch: pytest.MonkeyPatch):
    source = put(project.folder / "inbox" / "labelled" / "cat" / "a.png", "new cat")
    plain = Path.replace

    def replace(path: Path, target: Path) -> Path:
        if path.name.startswith("."):
            return plain(path, target)
        raise OSError(errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(Path, "replace", replace)
    assert take(project).moved == {"cat": 1} and not source.exists()
    assert len(list((project.folder / "images" / "cat").iterdir())) == 2


def test_equal_images_are_found_in_every_split(project: Project):
    images = project.folder / "images"
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            put(images / split / name / "a.png", f"{split} {name}")
    for name in ("cat", "dog"):
        (images / name / "first.png").unlink()
        (images / name).rmdir()
    place = project.folder / "inbox" / "labelled"
    put(place / "cat" / "a.png", "test cat")
    put(place / "cat" / "b.png", "test dog")
    taken = take(project)
    assert (taken.known, taken.disputed, taken.moved) == (1, ["cat/b.png is test/dog/a.png"], {})


def test_a_name_that_is_not_utf_8_stays_where_it_is_and_is_named(project: Project):
    put(project.folder / "inbox" / "labelled" / "cat" / "new.png", "new")
    odd = project.folder / "inbox" / "labelled" / "cat" / os.fsdecode(b"caf\xe9.png")
    odd.write_bytes((project.folder / "images" / "cat" / "first.png").read_bytes())
    taken = inbox.import_new(project, load(project.folder))
    assert taken.moved == {"cat": 1} and odd.exists()
    assert "cat/caf\\udce9.png" in taken.words()
