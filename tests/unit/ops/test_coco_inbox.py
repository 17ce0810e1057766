"""Images with annotations in COCO's JSON in the inbox: taken once, and the JSON shrinks to what stays."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from temper.ops.project import Project
from tests.outside.files import set_lines
from tests.project import make_project
from tests.unit.data.annotated import coco, of
from tests.unit.ops.test_annotated_inbox import check_kills, left, new_rows, pixels, rows, settle, take

BOX = (2, 3, 18, 17)
POLYGON = [[2, 3, 20, 3, 20, 20, 2, 20]]


def coco_project(folder: Path, content: dict[str, Any] | None = None, *, truth: str = "boxes") -> Project:
    """Write a project with six annotated images in `data/images`, or those of another content."""
    kind = {"boxes": "detection", "masks": "segmentation", "points": "keypoints"}[truth]
    project = make_project(folder, kind)
    set_lines(project, ingest=f"{{source: coco, folder: data, truth: {truth}}}", problem=f"{{kind: {kind}}}")
    more = {"boxes": {}, "masks": {"segmentation": POLYGON}, "points": {"keypoints": [5, 5, 2]}}[truth]
    objects = [of(number, 7 * (number % 2), *BOX, **more) for number in range(6)]
    content = content or coco({number: f"{number}.png" for number in range(6)}, *objects)
    for each in content["categories"] if truth == "points" else ():
        each["keypoints"] = ["nose"]
    (project / "data").mkdir()
    (project / "data" / "train.json").write_text(json.dumps(content, indent=1))
    for number, each in enumerate(content["images"]):
        pixels(project / "data" / "images" / each["file_name"], number)
    return Project.at(project)


def drop(project: Project, content: Any, seeds: Mapping[str, int], name: str = "week/new.json") -> Path:
    """Put a JSON file and images of these seeds beside it into the inbox; return the file."""
    path = project.folder / "inbox" / "labelled" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    for each, seed in seeds.items():
        pixels(path.parent / each, seed)
    settle(project)
    return path


def main(project: Project) -> Any:
    return json.loads((project.folder / "data" / "train.json").read_text())


def allow(project: Project) -> None:
    path = project.folder / "params.yaml"
    path.write_text(path.read_text() + "retrain: {new_classes: allow}\n")


OTHER = {1: "dog", 2: "cat"}
"""Categories of the inbox, whose ids are others than those of the dataset."""


def test_entries_get_ids_of_the_dataset(tmp_path: Path):
    project = coco_project(tmp_path)
    before = main(project)
    objects = of(7, 1, *BOX, iscrowd=1, area=4), of(7, 2, 1, 1, 9, 9), of(3, 2, *BOX)
    content = coco({7: "a.png", 3: "img/b.png", 1: "c.png"}, *objects, categories=OTHER)
    content["images"][0]["license"] = 4
    drop(project, content, {"a.png": 100, "img/b.png": 101, "c.png": 102})
    taken = take(project)
    assert taken.moved == {"with annotations": 3}, taken.words()
    for words in ("1 boxes are marked as crowds", "1 images show no object", "train.json has 3 new images"):
        assert words in taken.words()
    a, c, b = new_rows(project)
    assert (a.labels, b.labels, c.labels) == (("dog", "cat"), ("cat",), ())
    assert left(project) == [] and take(project).words() == "the inbox contains no new examples"
    after = main(project)
    assert after["images"][:6] == before["images"] and after["annotations"][:6] == before["annotations"]
    assert after["categories"] == before["categories"]
    assert [each["id"] for each in after["images"][6:]] == [6, 7, 8]
    assert after["images"][6] == {"id": 6, "file_name": Path(a.id).name, "width": 40, "height": 30}
    crowd = {"id": 7, "image_id": 6, "category_id": 7, "bbox": [*BOX], "iscrowd": 1, "area": 4}
    assert crowd in after["annotations"]
    assert (project.folder / "data" / "train.json").read_text().startswith('{\n "images": [\n  {\n   "id"')


def test_the_file_for_training_gets_the_new_ones(tmp_path: Path):
    project = coco_project(tmp_path)
    place = project.folder / "data"
    for number, split in enumerate(("test", "train")):
        (place / split).mkdir()
        content = coco({1: "x.png"}, of(1, 0, *BOX))
        (place / split / "_annotations.coco.json").write_text(json.dumps(content))
        pixels(place / split / "x.png", 50 + number)
    (place / "train.json").unlink()
    drop(project, coco({1: "a.png"}, of(1, 0, *BOX)), {"a.png": 100})
    said = take(project).words()
    assert "train/_annotations.coco.json has 1 new images, whose split is train" in said
    assert [(row.id[:8], row.split) for row in new_rows(project)] == [("train/a-", "train")]


def test_what_stays_keeps_its_entries(tmp_path: Path):
    project = coco_project(tmp_path)
    objects = of(1, 1, *BOX), of(2, 3, *BOX), of(2, 1, *BOX), of(3, 2, *BOX), of(9, 1, *BOX)
    names = {1: "a.png", 2: "owl.png", 3: "gone.png"}
    content = {**coco(names, *objects, categories={**OTHER, 3: "owl"}), "info": {"by": "hand"}}
    path = drop(project, content, {"a.png": 100, "owl.png": 101, "lone.png": 102})
    taken = take(project)
    assert taken.moved == {"with annotations": 1} and taken.strange == {"owl": 1}
    assert sorted(taken.unsorted) == ["labelled/week/lone.png", "week/new.json: gone.png"]
    assert "left out: 1 annotations are of images that are not in their file" in taken.words()
    rest = json.loads(path.read_text())
    assert [each["file_name"] for each in rest["images"]] == ["owl.png", "gone.png"] and rest["info"]
    assert [each["id"] for each in rest["annotations"]] == [2, 3, 4, 5]
    assert left(project) == ["week/lone.png", "week/new.json", "week/owl.png"]
    allow(project)
    more = coco({1: "b.png", 2: "c.png"}, of(1, 3, *BOX), of(2, 3, *BOX), categories={3: "owl"})
    drop(project, more, {"b.png": 103, "c.png": 104}, "more.json")
    assert take(project).moved == {"with annotations": 3}
    assert main(project)["categories"][2:] == [{"id": 8, "name": "owl", "supercategory": "thing"}]
    assert sum("owl" in row.labels for row in rows(project).values()) == 3
    assert [each["file_name"] for each in json.loads(path.read_text())["images"]] == ["gone.png"]


def test_what_the_dataset_has_or_says_otherwise_is_put_aside_with_its_entries(tmp_path: Path):
    project = coco_project(tmp_path)
    objects = of(1, 2, *BOX), of(2, 1, *BOX), of(3, 2, *BOX)
    content = coco({1: "i/same.png", 2: "i/other.png", 3: "i/damaged.png"}, *objects, categories=OTHER)
    path = drop(project, content, {"i/same.png": 0, "i/other.png": 0, "i/damaged.png": 9})
    (path.parent / "i" / "damaged.png").write_bytes(b"\x89PNG nothing")
    settle(project)
    taken = take(project)
    assert taken.known == 1 and taken.disputed == ["week/i/other.png is images/0.png"] and not taken.moved
    assert taken.unusable[0].startswith("week/i/damaged.png: ") and left(project) == []
    aside = project.folder / "inbox" / "aside"
    (rest,) = (aside / "week").glob("*-new.json")
    found = json.loads(rest.read_text())
    assert len(found["annotations"]) == 3 and found["categories"] == content["categories"]
    assert all((rest.parent / each["file_name"]).is_file() for each in found["images"])
    (aside / "week").rename(project.folder / "inbox" / "labelled" / "again")
    settle(project)
    again = take(project)
    assert (again.known, len(again.disputed), len(again.unusable)) == (1, 1, 1), "it can be put back as it is"


def test_other_spellings_become_those_of_the_dataset(tmp_path: Path):
    project = coco_project(tmp_path)
    drop(project, coco({1: "a.png"}, of(1, 5, *BOX), categories={5: "Cat"}), {"a.png": 100})
    assert take(project).renamed == {"Cat": "cat"}
    assert [row.labels for row in new_rows(project)] == [("cat",)] and len(main(project)["categories"]) == 2


NO_NAMES = {key: value for key, value in coco({1: "a.png"}, of(1, 0, *BOX)).items() if key != "categories"}


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ('{"images": [', "is no JSON"),
        ("[]", "it lists no objects in COCO's form"),
        (coco({1: "a.png"}, {"image_id": 1, "caption": "x"}), "it lists no objects in COCO's form"),
        (coco({}), "it lists no images"),
        (NO_NAMES, "it names no categories, but train.json does"),
        (coco({1: "a.png"}, of(1, 0, 0.1, 0.1, 0.5, 0.5), of(1, 0, 0.2, 0.2, 0.5, 0.5)), "are shares of the"),
        (coco({1: "a.png"}, of(1, 0, *BOX), categories={0: " "}), "has no id or no name"),
    ],
)
def test_a_file_that_cannot_be_read_stays_with_the_reason(tmp_path: Path, content: Any, words: str):
    project = coco_project(tmp_path)
    path = drop(project, content, {"a.png": 100})
    raw, taken = path.read_bytes(), take(project)
    assert len(taken.refused) == 1 and taken.refused[0].startswith("week/new.json: ")
    assert words in taken.refused[0] and not taken.moved and not taken.unsorted
    assert path.read_bytes() == raw and left(project) == ["week/a.png", "week/new.json"]


def test_an_image_that_two_files_list_stays(tmp_path: Path):
    project = coco_project(tmp_path)
    drop(project, coco({1: "a.png", 2: "b.png"}, of(1, 0, *BOX)), {"a.png": 100, "b.png": 101})
    drop(project, coco({1: "a.png"}, of(1, 7, *BOX)), {}, "week/twin.json")
    taken = take(project)
    assert "week/a.png: week/new.json and week/twin.json list it; remove it from one" in taken.refused[0]
    assert taken.moved == {"with annotations": 1}
    assert left(project) == ["week/a.png", "week/new.json", "week/twin.json"]


@pytest.mark.parametrize("name", ["new.json", "a.png"])
def test_what_is_still_being_copied_waits(tmp_path: Path, name: str):
    project = coco_project(tmp_path)
    path = drop(project, coco({1: "a.png"}, of(1, 0, *BOX)), {"a.png": 100})
    (path.parent / name).touch()
    taken = take(project)
    assert taken.fresh == 1 and not taken.moved and not taken.unsorted
    path.write_text("{")
    taken = take(project)
    assert not taken.refused and not taken.unsorted and left(project) == ["week/a.png", "week/new.json"]


def test_masks_are_drawn_with_the_numbers_of_the_dataset(tmp_path: Path):
    project = coco_project(tmp_path, truth="masks")
    allow(project)
    names = {number: f"{number}.png" for number in range(8)}
    kinds = {0: 2, 1: 1, 2: 3, 3: 3, 4: 3, 5: 4, 6: 4, 7: 4}
    objects = [of(number, kind, *BOX, segmentation=POLYGON) for number, kind in kinds.items()]
    content = coco(names, *objects, categories={**OTHER, 3: "emu", 4: "owl"})
    seeds = {f"{number}.png": 100 + number for number in range(2, 8)}
    drop(project, content, {"0.png": 0, "1.png": 0, **seeds})
    taken = take(project)
    assert taken.moved == {"with annotations": 6} and taken.known == 1, taken.words()
    assert taken.disputed == ["week/1.png is images/0.png"]
    numbers = [json.loads(row.truth or "")["numbers"] for row in new_rows(project)]
    assert numbers == [{"emu": 3}] * 3 + [{"owl": 4}] * 3


def test_points_are_taken_if_they_are_those_of_the_dataset(tmp_path: Path):
    project = coco_project(tmp_path, truth="points")
    places = {1: 9, 2: 5, 3: 8}
    content = coco(
        {1: "a.png", 2: "same.png", 3: "other.png"},
        *(of(number, 0, *BOX, keypoints=[place, 5, 2]) for number, place in places.items()),
    )
    content["categories"][0]["keypoints"] = ["nose"]
    drop(project, content, {"a.png": 100, "same.png": 0, "other.png": 0})
    content = coco({1: "b.png"}, of(1, 0, *BOX, keypoints=[5, 5, 2]))
    content["categories"][0]["keypoints"] = ["tail"]
    drop(project, content, {"b.png": 101}, "late/new.json")
    taken = take(project)
    assert taken.moved == {"with annotations": 1} and taken.known == 1, taken.words()
    assert taken.disputed == ["week/other.png is images/0.png"]
    assert "the points of cat are tail, but those of train.json are nose" in taken.refused[0]


def test_categories_that_are_called_by_their_numbers(tmp_path: Path):
    content = coco({number: f"{number}.png" for number in range(4)}, *(of(n, n % 2, *BOX) for n in range(4)))
    del content["categories"]
    project = coco_project(tmp_path, content)
    allow(project)
    for number in range(3):
        new = coco({1: "a.png"}, of(1, 1, *BOX), categories={1: "owl"})
        drop(project, new, {"a.png": 100 + number}, f"{number}/new.json")
    drop(project, {**NO_NAMES, "images": [{"id": 1, "file_name": "b.png"}]}, {"b.png": 200}, "b/new.json")
    taken = take(project)
    assert taken.moved == {"with annotations": 1} and len(taken.refused) == 3
    assert "train.json calls its categories by their numbers, so it cannot have owl" in taken.refused[0]


def test_a_file_that_is_read_only_changes_nothing(tmp_path: Path):
    project = coco_project(tmp_path)
    drop(project, coco({1: "a.png"}, of(1, 0, *BOX)), {"a.png": 100})
    (project.folder / "data" / "train.json").chmod(0o444)
    with pytest.raises(ValueError, match=r"train.json is read-only.*dvc unprotect"):
        take(project)
    assert left(project) == ["week/a.png", "week/new.json"] and not new_rows(project)


def batch(folder: Path) -> Project:
    """A batch in two files with new, known and disputed images, and one that stays."""
    project = coco_project(folder)
    names = {1: "a.png", 2: "known.png", 3: "owl.png"}
    objects = of(1, 1, *BOX), of(2, 2, *BOX), of(3, 3, *BOX)
    content = coco(names, *objects, categories={**OTHER, 3: "owl"})
    drop(project, content, {"a.png": 100, "known.png": 0, "owl.png": 101})
    content = coco({1: "b.png", 2: "other.png"}, of(1, 2, *BOX), of(2, 1, *BOX), categories=OTHER)
    drop(project, content, {"b.png": 102, "other.png": 0}, "late/new.json")
    return project


def masks_batch(folder: Path) -> Project:
    """A batch whose masks are drawn, with a new class."""
    project = coco_project(folder, truth="masks")
    allow(project)
    names = {number: f"{number}.png" for number in range(4)}
    objects = [of(number, 1 + (number > 0), *BOX, segmentation=POLYGON) for number in range(4)]
    content = coco(names, *objects, categories={1: "dog", 2: "owl"})
    drop(project, content, {f"{number}.png": 100 + number for number in range(4)})
    return project


@pytest.mark.parametrize("batch", [batch, masks_batch])
@pytest.mark.parametrize("linked", [True, False])
def test_a_kill_at_any_step_loses_nothing_and_takes_nothing_twice(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    batch: Callable[[Path], Project],
    linked: bool,
):
    check_kills(tmp_path, monkeypatch, batch, linked=linked, after=True)
