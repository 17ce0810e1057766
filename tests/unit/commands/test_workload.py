"""The workload of a training, counted by hand: from a source, and from artifacts of prepare and augment."""

from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from temper.commands.workload import LITTLE, find_made, measure_workload, split_counts
from temper.config import load
from temper.data.params import PrepareParams
from temper.stages import BY_NAME
from temper.stages.run_stage import run_stage
from tests.project import make_project


def change(project: Path, old: str, new: str) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("official", "counts"),
    [
        ({"train": 1000}, (720, 80, 200)),
        ({"train": 900, "test": 100}, (810, 90, 100)),
        ({"train": 800, "validation": 100}, (640, 100, 160)),
        ({"train": 800, "validation": 100, "test": 50}, (800, 100, 50)),
    ],
)
def test_official_splits_stay_and_shares_make_the_others(
    official: dict[str, int], counts: tuple[int, int, int]
):
    params = PrepareParams(height_px=8, width_px=8, test_share=0.2, validation_share=0.1)
    assert split_counts(Counter(official), params) == counts


@pytest.mark.parametrize(
    ("source", "train"),
    [
        ("{source: fashion-mnist}", 48_000),  # 60,000 x 0.8; 10,000 are the official test split
        ("{source: digits}", 1_078),  # (1,797 - 449) x 0.8
        ("{source: tree-crowns}", 72),
        ("{source: toys, truth: class, count: 240, size_px: 16}", 144),  # (240 - 60) x 0.8
    ],
)
def test_sources_that_are_known_are_not_opened(tmp_path: Path, source: str, train: int):
    project = make_project(tmp_path, "multiclass")
    change(project, "{source: toys, truth: class, count: 240, size_px: 16}", source)
    size = measure_workload(project, load(project))
    assert (size.train, size.draws, size.exact) == (train, train, False)


def test_a_folder_is_counted_and_rebalanced_without_reading_an_image(tmp_path: Path):
    project = make_project(tmp_path, "multiclass", augment="{balance: {method: oversample}}")
    change(
        project,
        "{source: toys, truth: class, count: 240, size_px: 16}",
        "{source: imagefolder, folder: images}",
    )
    for name, count in (("cat", 60), ("dog", 20)):
        (tmp_path / "images" / name).mkdir(parents=True)
        for number in range(count):
            (tmp_path / "images" / name / f"{number}.jpg").write_bytes(b"no image")
    size = measure_workload(project, load(project))
    # 80 - 20 test - 12 validation = 48; rebalancing draws 120 / 80 as many: 72.
    assert (size.train, size.validation, size.test, size.draws) == (48, 12, 20, 72)
    assert size.pixels(load(project), "train") == 72 * 16 * 16 * 2 < LITTLE


def test_what_prepare_and_augment_left_counts_as_long_as_it_is_of_these_parameters(tmp_path: Path):
    project = make_project(tmp_path, "multiclass", augment="{balance: {method: none}, copies: 0}")
    for stage in ("ingest", "prepare", "augment"):
        run_stage(BY_NAME[stage], project)
    size = measure_workload(project, load(project))
    assert size.exact
    assert size.train + size.validation + size.test == 240
    assert size.draws == size.train
    change(
        project, "{balance: {method: none}, copies: 0}", "{balance: {method: none}, copies: 0, workers: 1}"
    )
    assert find_made("augment", project, load(project)) is None
    assert measure_workload(project, load(project)).exact  # prepare still counts
    change(project, "test_share: 0.25", "test_share: 0.5")
    assert find_made("prepare", project, load(project)) is None
    assert measure_workload(project, load(project)).test == 120


def test_a_source_at_fault_is_told(tmp_path: Path):
    project = make_project(tmp_path, "multiclass")
    change(
        project,
        "{source: toys, truth: class, count: 240, size_px: 16}",
        "{source: imagefolder, folder: images}",
    )
    with pytest.raises(ValueError, match="does not exist"):
        measure_workload(project, load(project))
    (tmp_path / "images" / "cat").mkdir(parents=True)
    Image.new("L", (8, 8)).save(tmp_path / "images" / "cat" / "a.png")
    with pytest.raises(ValueError, match="one class only"):
        measure_workload(project, load(project))
