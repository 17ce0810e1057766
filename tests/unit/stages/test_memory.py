"""Large images are measured in smaller batches, with the same results as in large ones."""

from pathlib import Path

import pytest

from temper import artifacts
from temper.maths import batching
from temper.stages import fit_network
from tests.project import make_project, run_in_process, run_until

IMAGE_BYTES = 16 * 16 * 3 * 4


def test_the_size_of_batches_changes_no_result(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = make_project(tmp_path / "project", "segmentation", count=160, families="noise")
    run_until(project, "evaluate")
    measured = ("train", "quantize", "evaluate")
    whole = {name: artifacts.load(name, project / "artifacts" / name).facts for name in measured}
    monkeypatch.setattr(batching, "_BYTES", 5 * IMAGE_BYTES)
    parts = {name: run_in_process(project, name).facts for name in measured}
    assert parts["train"]["scores"] == pytest.approx(whole["train"]["scores"], abs=1e-3)
    assert parts["train"]["temperature"] == pytest.approx(whole["train"]["temperature"], rel=1e-3)
    for name, found in whole["quantize"]["candidates"].items():
        assert parts["quantize"]["candidates"][name]["gap"] == pytest.approx(found["gap"], abs=2e-3)
    headline = whole["evaluate"]["headline"]
    for name, found in whole["evaluate"]["candidates"].items():
        assert parts["evaluate"]["candidates"][name][headline] == pytest.approx(found[headline], abs=0.02)


def test_a_network_with_large_outputs_is_calibrated_from_some_of_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    project = make_project(tmp_path / "project", "multiclass", count=400, epochs=6)
    run_until(project, "train")
    whole = run_in_process(project, "train").facts["temperature"]
    monkeypatch.setattr(fit_network, "_CALIBRATION_BYTES", 30 * 4 * 4)
    assert run_in_process(project, "train").facts["temperature"] == pytest.approx(whole, rel=0.5)
