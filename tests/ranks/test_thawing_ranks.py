"""Two ranks compute what one computes, also while layers are unfrozen and wrapped anew."""

import json
import shutil
from pathlib import Path

import pytest

from temper.artifacts import WEIGHTS
from tests.project import make_project, run_stage, run_until
from tests.ranks.test_ranks import TOLERANCE, curves

TRANSFER = "transfer: {weights: start.safetensors, head_epochs: 1, unfreeze_epochs: 2, lr_decay: 0.7}"


@pytest.mark.slow
def test_two_ranks_unfreeze_as_one(tmp_path: Path):
    one = make_project(tmp_path / "one", "multiclass", epochs=4)
    run_until(one, "train")
    shutil.copyfile(one / "artifacts" / "train" / WEIGHTS, one / "start.safetensors")
    text = (one / "params.yaml").read_text().replace("train:\n", f"train:\n  {TRANSFER}\n")
    (one / "params.yaml").write_text(text)
    two = tmp_path / "two"
    shutil.copytree(one, two)
    (two / "params.yaml").write_text(text.replace("ranks: 1", "ranks: 2"))
    for project in (one, two):
        done = run_stage(project, "train")
        assert done.returncode == 0, done.stderr[-3000:]
        assert "starting from start.safetensors" in done.stdout
        facts = json.loads((project / "artifacts" / "train" / "artifact.json").read_text())["facts"]["transfer"]
        assert facts["share"] == 1.0 and facts["fresh"] == ["head.weight", "head.bias"]
    alone, together = curves(one), curves(two)
    assert alone.keys() == together.keys()
    losses = [key for key in alone if key[1] == "train/loss"]
    assert len(losses) >= 2
    for key in losses:
        assert together[key] == pytest.approx(alone[key], rel=TOLERANCE), key
