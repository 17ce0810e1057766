"""`make init` on folders of annotations: COCO's JSON and YOLO's text files, also as Roboflow exports them."""

import json
from pathlib import Path
from typing import Any

import pytest

from temper.cli.project_commands import init_project
from temper.config import load
from temper.recipe.finding_source import find_source
from temper.recipe.looking import inspect_data
from tests.unit.data.annotated import coco, image, of
from tests.unit.data.test_voc import write as write_voc
from tests.unit.data.test_yolo import CAT
from tests.unit.recipe.images import fill
from tests.unit.recipe.test_folder_kinds import run_first_stages

BOX = (2, 3, 18, 17)
POLYGON = [[2, 3, 20, 3, 20, 20, 2, 20]]
OUTLINE = "0 0.1 0.1 0.6 0.1 0.6 0.7 0.1 0.7"
SPLITS = {"train": 40, "valid": 12, "test": 12}


def coco_export(root: Path, **more: Any) -> Path:
    """Write an export of Roboflow in COCO's form."""
    for place, (split, count) in enumerate(SPLITS.items()):
        names = {number: f"{split}{number}.jpg" for number in range(count)}
        objects = (of(number, 7 * (number % 2), *more.get("box", BOX), **more) for number in names)
        for number, name in names.items():
            image(root / split / name, seed=100 * place + number)
        content = coco(names, *({key: each[key] for key in each if key != "box"} for each in objects))
        (root / split / "_annotations.coco.json").write_text(json.dumps(content))
    (root / "README.dataset.txt").write_text("# pets > 2024\nhttps://example.org\n")
    return root


def yolo_export(root: Path, *rows: str) -> Path:
    """Write an export of Roboflow for YOLO."""
    for place, (split, count) in enumerate(SPLITS.items()):
        for number in range(count):
            image(root / split / "images" / f"{split}{number}.jpg", seed=100 * place + number)
            text = root / split / "labels" / f"{split}{number}.txt"
            text.parent.mkdir(exist_ok=True)
            text.write_text("\n".join(f"{number % 2}{row[1:]}" for row in rows) if number else "")
    splits = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
    (root / "data.yaml").write_text(f"{splits}\nnc: 2\nnames: ['cat', 'dog']\n")
    (root / "README.roboflow.txt").write_text("pets\n")
    return root


@pytest.mark.usefixtures("quick")
def test_a_folder_for_yolo_becomes_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    init_project(yolo_export(tmp_path / "pets", CAT), tmp_path / "project", minutes=2)
    said = capsys.readouterr().out
    line = "saw: 64 .txt files of rows in YOLO's form (classes named by data.yaml; ingest.source: yolo): 61"
    assert line in said and "saw: problem detection" in said
    assert "saw: splits test 12, train 40, validation 12" in said
    assert load(tmp_path / "project").ingest.truth == "boxes"  # type: ignore[union-attr]
    assert run_first_stages(tmp_path / "project")["examples"] == {"train": 40, "validation": 12, "test": 12}


@pytest.mark.usefixtures("quick")
def test_outlines_without_boxes_become_masks(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    init_project(
        coco_export(tmp_path / "pets", box=(), segmentation=POLYGON), tmp_path / "project", minutes=2
    )
    said = capsys.readouterr().out
    assert "saw: 3 JSON files in COCO's form (test/_annotations.coco.json, train/" in said
    assert "64 outlines, which are drawn as masks; for boxes round them, set ingest.truth: boxes and" in said
    assert "saw: problem segmentation" in said and "multiclass" not in said
    params = load(tmp_path / "project")
    assert params.ingest.truth == "masks" and params.prepare.mask_values == {}  # type: ignore[union-attr]
    found = run_first_stages(tmp_path / "project")
    assert sum(found["examples"].values()) == 64 and set(found["counts"]) == {"background", "cat", "dog"}


def test_boxes_are_read_first_and_what_else_there_is_is_named(tmp_path: Path):
    found = find_source(coco_export(tmp_path, segmentation=POLYGON, keypoints=[5, 5, 2]))
    assert found.source.truth == "boxes"  # type: ignore[union-attr]
    assert found.why.endswith(
        ": 64 boxes, 64 outlines, 64 objects with points; boxes are read; for the outlines, set "
        "ingest.truth: masks and problem.kind: segmentation; for the objects with points, set "
        "ingest.truth: points and problem.kind: keypoints"
    )
    seen = inspect_data(tmp_path)
    assert seen.problem == {"kind": "detection"} and seen.official == {
        "train": 40,
        "validation": 12,
        "test": 12,
    }


def test_points_alone_are_read(tmp_path: Path):
    found = inspect_data(coco_export(tmp_path, box=(), keypoints=[5, 5, 2]))
    assert found.source.truth == "points" and found.problem == {"kind": "keypoints"}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("rows", "truth", "words"),
    [
        ([OUTLINE], "masks", "61 outlines, which are drawn as masks; for boxes round them, set ingest"),
        (
            [CAT, OUTLINE],
            "boxes",
            "61 boxes, 61 outlines; boxes are read; for the outlines, set ingest.truth",
        ),
    ],
)
def test_rows_are_boxes_or_outlines(tmp_path: Path, rows: list[str], truth: str, words: str):
    found = find_source(yolo_export(tmp_path, *rows))
    assert found.source.truth == truth and words in found.why  # type: ignore[union-attr]
    assert inspect_data(tmp_path).maps == (truth == "masks")


def test_points_of_yolo_are_named(tmp_path: Path):
    yolo_export(tmp_path, f"{CAT} 0.5 0.5 2")
    yaml = tmp_path / "data.yaml"
    yaml.write_text(yaml.read_text() + "kpt_shape: [1, 3]\n")
    assert "61 boxes, 61 objects with points; boxes are read; for the objects" in find_source(tmp_path).why


def test_texts_and_json_beside_class_folders_are_no_annotations(tmp_path: Path):
    fill(tmp_path, {"cat": 3, "dog": 3})
    for name in ("cat/000", "dog/000"):
        (tmp_path / f"{name}.txt").write_text("a photograph of 2 animals\n1 2 3\n")
        (tmp_path / f"{name}.json").write_text('{"annotations": [1]}')
    (tmp_path / "captions.json").write_text(
        json.dumps(coco({1: "cat/000.png"}, {"image_id": 1, "caption": "x"}))
    )
    (tmp_path / "cut.json").write_text('{"tags": [')
    found = find_source(tmp_path)
    assert found.source.source == "imagefolder" and not found.why


def test_a_file_of_annotations_that_is_cut_off_is_named(tmp_path: Path):
    path = coco_export(tmp_path) / "train" / "_annotations.coco.json"
    path.write_text(path.read_text()[:-20])
    with pytest.raises(ValueError, match=r"train/_annotations.coco.json is no JSON .* it may be cut off"):
        find_source(tmp_path)


def test_rows_with_a_mistake_are_still_rows(tmp_path: Path):
    (yolo_export(tmp_path, CAT) / "train" / "labels" / "train1.txt").write_text("0,0.5,0.5,0.1,0.1")
    assert find_source(tmp_path).source.source == "yolo"
    with pytest.raises(ValueError, match=r"train1.txt, line 1 .*separate numbers by blanks"):
        inspect_data(tmp_path)


def test_other_annotations_of_a_folder_are_named(tmp_path: Path):
    for number in range(3):
        write_voc(tmp_path, str(number), ("cat", [1.0, 2, 20, 20]))
        (tmp_path / "JPEGImages" / f"{number}.txt").write_text(CAT)
    found = find_source(tmp_path)
    assert found.source.source == "voc"
    assert (
        "not read, though it is there: 3 .txt files of rows in YOLO's form (ingest.source: yolo): 3 boxes"
        in found.why
    )
