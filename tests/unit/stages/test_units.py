"""The units that measurements draw: groups where the data have them."""

import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from temper import artifacts
from temper.stages.units import read_units
from tests.project import make_project, run_until


@pytest.mark.parametrize("grouped", [True, False])
def test_images_of_a_group_are_one_unit(tmp_path: Path, grouped: bool):
    rng, lines = np.random.default_rng(0), []
    for number in range(60):
        assert cv2.imwrite(str(tmp_path / f"{number}.png"), rng.integers(0, 255, (16, 16, 3), np.uint8))
        lines.append(f"{number}.png,{'ab'[number % 2]},{number // 4 if grouped and number < 56 else ''}")
    (tmp_path / "table.csv").write_text("path,labels,patient\n" + "\n".join(lines) + "\n")
    params = make_project(tmp_path / "project", "multiclass") / "params.yaml"
    ingest = f"ingest: {{source: table, file: {tmp_path}/table.csv, group: patient}}"
    params.write_text(re.sub(r"ingest: .*", ingest, params.read_text()))
    run_until(tmp_path / "project", "prepare")
    prepare = artifacts.load("prepare", tmp_path / "project" / "artifacts" / "prepare")
    for split in ("validation", "test"):
        units, total = read_units(prepare, split), prepare.facts["examples"][split]
        assert len(units) == total and (len(units.unique()) < total) == grouped
    assert ("grouped" in prepare.facts) == grouped
