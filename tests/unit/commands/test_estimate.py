"""A few real steps are timed for every problem, every source and both ways of storing images."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from temper.cli.project_commands import estimate_stages
from temper.commands.estimate import estimate
from temper.commands.time_estimates import read_estimates
from temper.commands.workload import measure_workload
from temper.config import load
from temper.engine import step_timing
from temper.stages import BY_NAME
from temper.stages.run_stage import run_stage
from tests.project import KINDS, make_project


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step_timing, "_ENOUGH", 2)
    monkeypatch.setattr(step_timing, "_ENOUGH_S", 0.0)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_problem_is_timed_before_anything_ran(tmp_path: Path, kind: str):
    pictured = kind not in ("text", "clip")
    families = {} if pictured else {"families": ""}
    project = make_project(tmp_path, kind, **families)
    params = load(project)
    found = estimate(project, params, ("train", "distill", "evaluate"))
    # 144 draws in batches of 32, 2 epochs.
    assert found["train"].words.startswith("8 steps of ")
    assert found["distill"].words.startswith("8 steps of ")
    # 60 test images; 40 of them, if they are images, under 12 conditions of 5 severities; with boxes, 14.
    conditions = {**dict.fromkeys(KINDS, 12), "detection": 14, "text": 0, "clip": 0}
    images = 60 + 40 * 5 * conditions[kind]
    assert found["evaluate"].words.startswith(f"{images:,} images, ")
    assert all(each.seconds > 0 for each in found.values())
    assert read_estimates(project, params, measure_workload(project, params)) == found
    assert not (project / "artifacts").exists()


def test_prepared_images_are_taken_where_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = make_project(tmp_path, "multiclass", augment="{balance: {method: oversample}, copies: 0}")
    for stage in ("ingest", "prepare", "augment"):
        run_stage(BY_NAME[stage], project)
    monkeypatch.setattr("temper.commands.estimate.take_sample", None)
    draws = measure_workload(project, load(project)).draws
    assert estimate(project, load(project), ("train",))["train"].words.startswith(
        f"{2 * (draws // 32)} steps of "
    )


@pytest.mark.parametrize("keep", ["pixels", "encoded"])
def test_a_folder_of_files_is_sampled_and_never_copied(tmp_path: Path, keep: str):
    project = make_project(tmp_path, "multiclass")
    text = (project / "params.yaml").read_text()
    text = text.replace(
        "{source: toys, truth: class, count: 240, size_px: 16}", "{source: imagefolder, folder: images}"
    )
    text = text.replace("test_share: 0.25", f"test_share: 0.25, keep: {keep}")
    (project / "params.yaml").write_text(text.replace("crop_px: 1", "crop_px: 1, crop_scale: [0.5, 1]"))
    generator = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (project / "images" / name).mkdir(parents=True)
        for number in range(60):
            pixels = generator.integers(0, 256, (20, 24, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(project / "images" / name / f"{number}.jpg")
    (project / "images" / "cat" / "0.jpg").write_bytes(b"no image")
    # 120 - 30 test - 18 validation = 72: 2 batches of 32 an epoch.
    assert estimate(project, load(project), ("train",))["train"].words.startswith("4 steps of ")
    assert sorted(path.name for path in project.iterdir()) == [".temper", "images", "params.yaml"]


def test_several_ranks_share_a_batch_and_it_is_said(tmp_path: Path):
    project = make_project(tmp_path, "multiclass")
    text = (project / "params.yaml").read_text().replace("ranks: 1", "ranks: 2", 1)
    (project / "params.yaml").write_text(text)
    found = estimate(project, load(project), ("train",))["train"]
    assert "timed on one of 2 ranks" in found.words


@pytest.mark.parametrize("sampling", ["class-aware, classes: 3", "oversample", "undersample", "weighted"])
def test_steps_are_timed_on_a_sample_however_examples_are_chosen(tmp_path: Path, sampling: str):
    project = make_project(tmp_path, "multiclass")
    text = (project / "params.yaml").read_text()
    text = text.replace("train:\n", f"train:\n  sampling: {{method: {sampling}}}\n")
    (project / "params.yaml").write_text(text)
    assert " steps of " in estimate(project, load(project), ("train",))["train"].words


def test_what_cannot_be_built_is_refused_as_training_would(tmp_path: Path):
    project = make_project(tmp_path, "multiclass")
    text = (
        (project / "params.yaml")
        .read_text()
        .replace("small-resnet, widths: [8, 16], depths: [1, 1]", "timm, name: nothing", 1)
    )
    (project / "params.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"backbone\.name = 'nothing'.*e\.g\."):
        estimate(project, load(project), ("train",))


def test_the_command_says_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    project = make_project(tmp_path, "multiclass")
    estimate_stages(["train"], project)
    assert capsys.readouterr().out.startswith("train: about ")
    with pytest.raises(ValueError, match=r"'ingest' is not timed; .*train, distill, evaluate"):
        estimate_stages(["ingest"], project)
