"""Images with YOLO's text files in the inbox: taken once, with the class numbers of the dataset."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from temper.config import load
from temper.data.sources import LISTED
from temper.ops.project import Project
from temper.problem import Row
from tests.outside.files import set_lines
from tests.project import make_project
from tests.unit.data.test_yolo import CAT, write
from tests.unit.ops.test_annotated_inbox import check_kills, left, new_rows, pixels, rows, settle, take

DOG = "1 0.5 0.5 0.5 0.4"
OUTLINE = "0.1 0.1 0.6 0.1 0.6 0.7 0.1 0.7"


def yolo_project(folder: Path, yaml: str | None = "names: [cat, dog]", *, truth: str = "boxes") -> Project:
    """Write a project with six annotated images in `data`."""
    kind = {"boxes": "detection", "masks": "segmentation", "points": "keypoints"}[truth]
    project = make_project(folder, kind)
    set_lines(project, ingest=f"{{source: yolo, folder: data, truth: {truth}}}", problem=f"{{kind: {kind}}}")
    texts = {
        "boxes": (CAT, f"{CAT}\n{DOG}"),
        "masks": (f"0 {OUTLINE}", f"1 {OUTLINE}"),
        "points": (f"{CAT} 0.5 0.5 2", f"{DOG} 0.4 0.5 2"),
    }[truth]
    write(project / "data", {str(number): texts[number % 2] for number in range(6)}, yaml=yaml)
    for number in range(6):
        pixels(project / "data" / "images" / f"{number}.jpg", number)
    return Project.at(project)


def drop(project: Project, name: str, text: str, *, seed: int = 100, yaml: str | None = None) -> Path:
    """Put an image and its text file into the inbox, and perhaps a data.yaml; return the folder."""
    folder = project.folder / "inbox" / "labelled"
    pixels(folder / f"{name}.jpg", seed)
    (folder / f"{name}.txt").write_text(text)
    if yaml is not None:
        (folder / name).with_name("data.yaml").write_text(yaml)
    settle(project)
    return folder


def text_of(project: Project, row: Row) -> str:
    return (project.folder / "data" / "labels" / f"{Path(row.id).stem}.txt").read_text()


def allow(project: Project) -> None:
    path = project.folder / "params.yaml"
    path.write_text(path.read_text() + "retrain: {new_classes: allow}\n")


def test_an_image_and_its_text_are_taken_under_one_name(tmp_path: Path):
    project = yolo_project(tmp_path)
    drop(project, "week/new", f"{CAT}\n{DOG}\n")
    drop(project, "week/empty", "", seed=101)
    taken = take(project)
    assert taken.moved == {"with text files": 2}, taken.words()
    empty, new = new_rows(project)
    assert new.id.startswith("images/new-") and new.labels == ("cat", "dog") and empty.labels == ()
    assert text_of(project, new) == f"{CAT}\n{DOG}\n" and "noticed: 1 images show no object" in taken.words()
    assert left(project) == [] and take(project).words() == "the inbox contains no new examples"


def test_texts_are_found_in_the_folder_labels_of_an_export(tmp_path: Path):
    project = yolo_project(tmp_path)
    for number, split in enumerate(("train", "valid")):
        folder = drop(project, f"{split}/images/same", CAT, seed=100 + number)
        (folder / split / "labels").mkdir()
        (folder / split / "images" / "same.txt").rename(folder / split / "labels" / "same.txt")
    assert take(project).moved == {"with text files": 2} and left(project) == []


@pytest.mark.parametrize(
    ("name", "names"), [("data.yaml", "names: [Dog, cat]\n"), ("classes.txt", "Dog\ncat\n")]
)
def test_numbers_of_another_list_of_names_become_those_of_the_dataset(tmp_path: Path, name: str, names: str):
    project = yolo_project(tmp_path)
    drop(project, "week/labels/a", "0 0.5 0.5 0.5 0.4\n1.0 0.5 0.5 0.5 0.2\n")
    drop(project, "week/b", CAT, seed=101)
    folder = drop(project, "other/c", CAT, seed=102)
    (folder / "week" / name).write_text(names)
    assert take(project).fresh == 2, "the names may still be being copied"
    settle(project)
    taken = take(project)
    assert taken.moved == {"with text files": 2} and taken.renamed == {"Dog": "dog"}
    assert f"2 text files have the class numbers of week/{name}" in taken.words()
    assert "Dog 0 -> 1, cat 1 -> 0" in taken.words() and "stays in the inbox" in taken.words()
    assert [(row.labels, text_of(project, row)) for row in new_rows(project)] == [
        (("dog", "cat"), "1 0.5 0.5 0.5 0.4\n0 0.5 0.5 0.5 0.2\n"),
        (("dog",), CAT.replace("0", "1", 1)),
        (("cat",), CAT),
    ]
    assert left(project) == [f"week/{name}"]


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("# mine\nnames: [cat, dog] # two\nnc: 2\n", "# mine\nnames: [cat, dog, emu, owl] # two\nnc: 4\n"),
        ("names:\n  0: cat\n  3: dog\n", "names:\n  0: cat\n  3: dog\n  4: emu\n  5: owl\n"),
    ],
)
def test_new_classes_are_added_to_the_names(tmp_path: Path, yaml: str, expected: str):
    project = yolo_project(tmp_path, yaml)
    for number in range(3):
        drop(project, f"a{number}", f"1 {DOG[2:]}", seed=100 + number, yaml="names: [cat, emu, owl]")
        drop(project, f"b{number}", f"2 {DOG[2:]}", seed=200 + number)
    taken = take(project)
    assert taken.strange == {"emu": 3, "owl": 3} and not taken.moved
    assert (project.folder / "data" / "data.yaml").read_text() == yaml
    allow(project)
    taken = take(project)
    assert taken.moved == {"with text files": 6}
    assert re.search(r"data\.yaml names new classes: \d emu, \d owl; commit it", taken.words())
    assert (project.folder / "data" / "data.yaml").read_text() == expected
    assert [row.labels for row in new_rows(project)] == [("emu",)] * 3 + [("owl",)] * 3


def test_a_list_of_images_gets_the_new_ones(tmp_path: Path):
    project = yolo_project(tmp_path, "names: [cat, dog]\ntrain: train.txt\nval: val.txt\n")
    for name, numbers in {"train": "0123", "val": "45"}.items():
        (project.folder / "data" / f"{name}.txt").write_text("\n".join(f"./images/{n}.jpg" for n in numbers))
    drop(project, "new", CAT)
    taken = take(project)
    assert "train.txt has 1 new lines" in taken.words() and [row.split for row in new_rows(project)] == [
        "train"
    ]
    assert "./images/new-" in (project.folder / "data" / "train.txt").read_text()


def test_what_cannot_be_read_stays_with_the_reason(tmp_path: Path):
    project = yolo_project(tmp_path)
    drop(project, "a", "0 0.5 0.5")
    drop(project, "b", "7 0.5 0.5 0.1 0.1", seed=101)
    drop(project, "c", "0 20 12 10 8\n0 21 14 9 9", seed=102)
    drop(project, "d/d", CAT, seed=103, yaml="names: [cat\n")
    drop(project, "e/e", "1 0.5 0.5 0 0", seed=104, yaml="names: [cat, emu]")
    taken = take(project)
    reasons = dict(each.split(": ", 1) for each in taken.refused)
    assert list(reasons) == ["a.txt", "b.txt", "c.txt", "d/d.txt", "e/e.txt"]
    for name, words in {
        "a.txt": "line 1 has 3 numbers",
        "b.txt": "it has rows of class 7, but the classes of",
        "c.txt": "look like pixels",
        "d/d.txt": "is no YAML",
        "e/e.txt": "it has objects of emu, a class that the dataset does not have, and none of them",
    }.items():
        assert words in reasons[name], reasons[name]
    assert not taken.moved and len(left(project)) == 12


def test_files_without_a_counterpart_stay(tmp_path: Path):
    project = yolo_project(tmp_path)
    folder = drop(project, "a", CAT)
    (folder / "a.jpg").unlink()
    pixels(folder / "b.png", 7)
    (folder / "classes.txt").write_text("cat\ndog\n")
    settle(project)
    taken = take(project)
    assert not taken.moved and sorted(taken.unsorted) == ["labelled/a.txt", "labelled/b.png"]
    assert "an empty .txt file says that an image shows no object" in taken.words()


def test_what_the_dataset_has_or_says_otherwise_is_put_aside_with_its_own_numbers(tmp_path: Path):
    project = yolo_project(tmp_path)
    names = "names: [dog, cat]"
    drop(project, "same", f"1 {CAT[2:]}", seed=0, yaml=names)
    drop(project, "other", f"0 {CAT[2:]}", seed=0)
    folder = drop(project, "damaged", f"0 {CAT[2:]}")
    (folder / "damaged.jpg").write_bytes(b"\x89PNG nothing")
    settle(project)
    taken = take(project)
    assert taken.known == 1 and taken.disputed == ["other.jpg is images/0.jpg"] and not taken.moved
    assert taken.unusable[0].startswith("damaged.jpg: ") and "another set of objects" in taken.words()
    aside = project.folder / "inbox" / "aside"
    texts = {path.stem.partition("-")[2]: path.read_text() for path in aside.glob("*.txt")}
    assert texts == {"same": CAT, "other": f"1 {CAT[2:]}", "damaged": f"1 {CAT[2:]}"}
    assert left(project) == ["data.yaml"] and len({path.stem for path in aside.glob("*-*")}) == 3


def test_masks_are_drawn_with_the_numbers_of_the_dataset(tmp_path: Path):
    project = yolo_project(tmp_path, truth="masks")
    allow(project)
    names = "names: [dog, emu, owl]"
    drop(project, "a", f"0 {OUTLINE}", yaml=names)
    drop(project, "same", f"0 {OUTLINE}", seed=1)
    drop(project, "other", f"0 {OUTLINE}", seed=0)
    for number in range(3):
        drop(project, f"emu{number}", f"1 {OUTLINE}", seed=200 + number)
        drop(project, f"owl{number}", f"2 {OUTLINE}", seed=300 + number)
    taken = take(project)
    assert taken.moved == {"with text files": 7} and taken.known == 1, taken.words()
    assert taken.disputed == ["other.jpg is images/0.jpg"]
    assert "[background, cat, dog, emu, owl]" in taken.words()
    numbers = [json.loads(row.truth or "")["numbers"] for row in new_rows(project)]
    assert numbers == [{"dog": 2}, *[{"emu": 3}] * 3, *[{"owl": 4}] * 3]


POINTS = "names: [cat, dog]\nkpt_shape: [1, 3]\nkpt_names: {0: [nose]}\n"


def test_points_are_taken_if_they_are_those_of_the_dataset(tmp_path: Path):
    project = yolo_project(tmp_path, POINTS, truth="points")
    drop(project, "a", f"{CAT} 0.25 0.5 2")
    drop(project, "same", f"{CAT} 0.5 0.5 2", seed=0)
    drop(project, "other", f"{CAT} 0.1 0.5 2", seed=0)
    drop(project, "two", f"{CAT} 0.5 0.5 2\n{DOG} 0.4 0.5 2", seed=101)
    drop(project, "b/b", f"{CAT} 0.5 0.5 2", seed=102, yaml=POINTS.replace("nose", "tail"))
    taken = take(project)
    assert taken.moved == {"with text files": 1} and taken.known == 1, taken.words()
    assert taken.disputed == ["other.jpg is images/0.jpg"]
    assert "are tail, but those of the dataset are nose" in taken.refused[0]
    assert "two.txt: it shows 2 objects with known points" in taken.refused[1]


def test_classes_that_are_called_by_their_numbers(tmp_path: Path):
    project = yolo_project(tmp_path, None)
    drop(project, "a", f"{CAT}\n{DOG}")
    drop(project, "b", f"5 {CAT[2:]}", seed=101)
    drop(project, "c/c", CAT, seed=102, yaml="names: [cat, dog]")
    taken = take(project)
    assert taken.moved == {"with text files": 1} and taken.strange == {"5": 1}
    assert "but the dataset calls them by their numbers" in taken.refused[0]


def test_a_file_of_names_that_is_read_only_changes_nothing(tmp_path: Path):
    project = yolo_project(tmp_path)
    allow(project)
    for number in range(3):
        drop(project, f"a{number}", f"0 {DOG[2:]}", seed=100 + number, yaml="names: [emu]")
    (project.folder / "data" / "data.yaml").chmod(0o444)
    with pytest.raises(ValueError, match=r"data.yaml is read-only.*dvc unprotect"):
        take(project)
    assert len(left(project)) == 7 and not new_rows(project)


def plain_batch(folder: Path) -> Project:
    """A batch of which two images are new, one is known, and one has no object."""
    project = yolo_project(folder)
    drop(project, "a", CAT)
    drop(project, "b", f"{DOG}\n{CAT}", seed=101)
    drop(project, "known", CAT, seed=0)
    drop(project, "empty", "", seed=102)
    return project


def named_batch(folder: Path) -> Project:
    """A batch with other class numbers and a new class, for a dataset with lists of images."""
    project = yolo_project(folder, "names: [cat, dog]\ntrain: train.txt\n")
    (project.folder / "data" / "train.txt").write_text("".join(f"images/{n}.jpg\n" for n in range(6)))
    allow(project)
    for number in range(3):
        drop(project, f"emu{number}", f"0 {CAT[2:]}", seed=100 + number, yaml="names: [emu, cat]")
    drop(project, "known", f"1 {CAT[2:]}", seed=0)
    drop(project, "other", f"1 {DOG[2:]}", seed=0)
    return project


@pytest.mark.parametrize("batch", [plain_batch, named_batch])
@pytest.mark.parametrize("linked", [True, False])
def test_a_kill_at_any_step_loses_nothing_and_takes_nothing_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: Callable[[Path], Project],
    linked: bool,
):
    check_kills(tmp_path, monkeypatch, batch, linked=linked, after=True)


def test_no_image_is_in_the_dataset_without_its_text_at_any_moment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = named_batch(tmp_path)
    path = type(project.folder)
    appear = path.hardlink_to

    def look(self: Path, target: Path) -> None:
        appear(self, target)
        ingest = load(project.folder).ingest
        for row in LISTED[ingest.source](ingest, project.folder).rows:
            assert row.labels, f"{row.id} shows no object after {self.name}"

    monkeypatch.setattr(path, "hardlink_to", look)
    take(project)
    assert len(rows(project)) == 9
