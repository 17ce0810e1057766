"""Two ranks compute the same as one, also when layers are unfrozen and the network is wrapped again."""

import json
import shutil
from pathlib import Path

import pytest

from temper.artifacts import WEIGHTS
from tests.project import make_project, run_until
from tests.ranks.test_ranks import train_with_one_and_two

TRANSFER = "transfer: {weights: start.safetensors, head_epochs: 1, unfreeze_epochs: 2, lr_decay: 0.7}"


@pytest.mark.slow
def test_two_ranks_unfreeze_as_one(tmp_path: Path):
    one = make_project(tmp_path / "one", "multiclass", epochs=4)
    run_until(one, "train")
    shutil.copyfile(one / "artifacts" / "train" / WEIGHTS, one / "start.safetensors")
    text = (one / "params.yaml").read_text().replace("train:\n", f"train:\n  {TRANSFER}\n")
    (one / "params.yaml").write_text(text)
    train_with_one_and_two(one)
    for project in (one, tmp_path / "two"):
        facts = json.loads((project / "artifacts" / "train" / "artifact.json").read_text())["facts"][
            "transfer"
        ]
        assert facts["share"] == 1.0 and facts["fresh"] == ["head.weight", "head.bias"]
