"""`make init` on folders of masks and of boxes: the source, the problem, and the first stages."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.artifacts import load as load_artifact
from temper.cli.project_commands import init_project
from temper.config import load, parse
from temper.recipe.finding_source import find_source
from temper.recipe.looking import inspect_data
from temper.recipe.new_project import describe, make_text
from temper.recipe.object_sizes import explain_size
from temper.stages import BY_NAME
from temper.stages.run_stage import run_stage
from tests.unit.data.test_voc import write as write_voc
from tests.unit.recipe.images import draw, fill
from tests.unit.recipe.typical import SPEEDS


def masks(folder: Path, mask: Callable[[int], np.ndarray], count: int = 24) -> Path:
    """Write images of 32 px with masks, in `images` and `masks`."""
    for number in range(count):
        draw(folder / "images" / f"{number}.png", size=(32, 32), seed=number)
        (folder / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask(number)).save(folder / "masks" / f"{number}.png")
    return folder


def square(number: int, value: int | tuple[int, int, int] = 255) -> np.ndarray:
    colours = () if isinstance(value, int) else (3,)
    mask = np.zeros((32, 32, *colours), np.uint8)
    mask[4 : 12 + number % 9, 4:20] = value
    return mask


def boxes(folder: Path, count: int = 64) -> Path:
    """Write annotated images of 40x30 px with one or two objects."""
    for number in range(count):
        found = [("cat", [2.0 + number % 9, 3, 20.0 + number % 9, 20])]
        write_voc(folder, f"{number:02}", *found, *([("dog", [5, 5, 9, 9])] if number % 2 else []))
        image = folder / "JPEGImages" / f"{number:02}.jpg"
        pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), np.uint8)
        Image.fromarray(pixels).save(image)
    return folder


def run_first_stages(project: Path) -> dict[str, dict[str, int]]:
    for stage in ("ingest", "prepare"):
        run_stage(BY_NAME[stage], project)
    facts = load_artifact("prepare", project / "artifacts" / "prepare").facts
    return {"examples": facts["examples"], "counts": facts["counts"]["train"]}


@pytest.mark.usefixtures("quick")
def test_a_folder_of_masks_becomes_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    init_project(masks(tmp_path / "cells", square), tmp_path / "project", minutes=2)
    assert "saw: 24 images with masks (images/ and masks/): ingest.source: masks" in capsys.readouterr().out
    params = load(tmp_path / "project")
    assert params.ingest.source == "masks" and params.prepare.mask_values == {0: "background", 255: "class-1"}
    assert params.problem.classes == ("background", "class-1")
    assert "problem: {kind: segmentation} " in (tmp_path / "project" / "params.yaml").read_text()
    found = run_first_stages(tmp_path / "project")
    assert sum(found["examples"].values()) == 24 and set(found["counts"]) == {"background", "class-1"}


@pytest.mark.usefixtures("quick")
def test_a_folder_of_boxes_becomes_a_project(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    init_project(boxes(tmp_path / "pets"), tmp_path / "project", minutes=2)
    said = capsys.readouterr().out
    assert "saw: 64 .xml files in the form of PASCAL VOC: boxes (ingest.source: voc)" in said
    assert "saw: problem detection" in said and "multiclass" not in said
    assert "objects are small" not in said, "they are as large as they were"
    assert load(tmp_path / "project").ingest.source == "voc"
    found = run_first_stages(tmp_path / "project")
    assert sum(found["examples"].values()) == 64 and set(found["counts"]) == {"cat", "dog"}


def test_masks_in_colour_get_a_line_for_each_colour(tmp_path: Path):
    colours = [(255, 0, 0), (0, 0, 255)]
    found = inspect_data(masks(tmp_path, lambda number: square(number, colours[number % 2])))
    assert list(found.mask_values.values()) == ["background", "class-1", "class-2"]
    assert set(found.mask_values) == {"#000000", "#ff0000", "#0000ff"}
    params = parse(make_text(found, SPEEDS, (), minutes=10, project="x"))
    assert params.problem.classes == ("background", "class-1", "class-2")
    assert params.prepare.mask_values == found.mask_values


def test_masks_with_smooth_edges_in_colour_are_refused(tmp_path: Path):
    def smooth(number: int) -> np.ndarray:
        return np.random.default_rng(number).integers(0, 255, (32, 32, 3), np.uint8)

    with pytest.raises(ValueError, match=r"24 of 24 sampled masks cannot be used.*more than 16 colours"):
        inspect_data(masks(tmp_path, smooth))


def test_masks_that_number_their_classes_have_names_in_the_problem(tmp_path: Path):
    found = inspect_data(masks(tmp_path, lambda number: square(number, 1)))
    assert found.problem == {"kind": "segmentation", "classes": ["background", "class-1"]}
    assert found.mask_values == {} and found.maps


def test_few_images_with_masks_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"holds 19 images; at least 20 are needed"):
        inspect_data(masks(tmp_path, square, count=19))


@pytest.mark.parametrize("classes", [{"cat": 3, "dog": 3}, {"mask": 3, "without_mask": 3}])
def test_class_folders_are_still_class_folders(tmp_path: Path, classes: dict[str, int]):
    fill(tmp_path, classes)
    (tmp_path / "notes.xml").write_text("<catalog/>")
    assert find_source(tmp_path).source.source == "imagefolder" and not find_source(tmp_path).why


def test_two_folders_that_may_hold_masks_are_named(tmp_path: Path):
    masks(tmp_path, square)
    draw(tmp_path / "labels" / "1.png")
    with pytest.raises(
        ValueError, match=r"labels and masks may both .*ingest.masks, in a params.yaml of your"
    ):
        find_source(tmp_path)


def test_masks_beside_images_are_recognised(tmp_path: Path):
    for number in range(20):
        draw(tmp_path / f"{number}.png", seed=number)
        draw(tmp_path / f"{number}_mask.png", seed=number)
    found = find_source(tmp_path)
    assert found.source.source == "masks" and "20 images with masks (beside them)" in found.why


def test_an_answer_has_room_for_all_objects(tmp_path: Path):
    many = [("cat", [1.0 + each % 20, 1.0 + each // 20, 30, 29]) for each in range(120)]
    boxes(tmp_path)
    write_voc(tmp_path, "many", *many)
    assert inspect_data(tmp_path).problem == {"kind": "detection", "most": 180}
    assert any("ingest.source: voc" in line for line in describe(inspect_data(tmp_path)))


def test_what_smaller_images_lose_is_said():
    (line,) = explain_size({"cat": 0.5, "dog": 0.1}, maps=False, before=(480, 640), after=(48, 64))
    assert "objects are small at 64x48 px (median sides: dog 6 px)" in line and "MINUTES" in line
    (line,) = explain_size({}, maps=True, before=(512, 512), after=(48, 48))
    assert "each pixel of a mask at 48x48 px stands for 11 pixels" in line and "MINUTES" in line
    assert explain_size({}, maps=True, before=(64, 64), after=(48, 48)) == []
