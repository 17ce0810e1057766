"""Two ranks compute the same as one rank with the same global batch."""

import csv
import shutil
from pathlib import Path

import pytest

from tests.project import make_project, run_in_process, run_stage, run_until

TOLERANCE = 2e-3
"""Relative tolerance of the training loss.

Sums have another order, over ten steps with momentum and batch statistics.
"""


def curves(project: Path) -> dict[tuple[int, str], float]:
    with (project / "artifacts" / "train" / "curves.csv").open() as stream:
        return {(int(row["step"]), row["name"]): float(row["value"]) for row in csv.DictReader(stream)}


def train_with_one_and_two(one: Path) -> tuple[dict[tuple[int, str], float], dict[tuple[int, str], float]]:
    """Train a project's teacher with one rank and with two; check that the losses agree; return the curves.

    The two ranks train in a copy of the project beside it, called `two`.
    """
    two = one.with_name("two")
    shutil.copytree(one, two)
    (two / "params.yaml").write_text((one / "params.yaml").read_text().replace("ranks: 1", "ranks: 2"))
    run_in_process(one, "train")
    done = run_stage(two, "train")
    assert done.returncode == 0, done.stderr[-3000:]
    alone, together = curves(one), curves(two)
    assert alone.keys() == together.keys()
    losses = [key for key in alone if key[1] == "train/loss"]
    assert len(losses) >= 2
    for key in losses:
        assert together[key] == pytest.approx(alone[key], rel=TOLERANCE), key
    return alone, together


@pytest.mark.slow
@pytest.mark.parametrize(
    ("views", "batch_size", "sampling"),
    [
        ("flip: true, crop_px: 1", 32, "shuffle"),
        # Parts of 16 and 17 examples.
        ("flip: true, crop_px: 1, mixup: 1.0, mix_share: 0.7", 33, "class-aware"),
    ],
)
def test_two_ranks_are_one(tmp_path: Path, views: str, batch_size: int, sampling: str):
    one = make_project(tmp_path / "one", "multiclass", epochs=4)
    text = (one / "params.yaml").read_text().replace("flip: true, crop_px: 1}", f"{views}}}")
    text = text.replace("batch_size: 32", f"batch_size: {batch_size}")
    text = text.replace("  views:", f"  sampling: {{method: {sampling}}}\n  views:")
    (one / "params.yaml").write_text(text)
    run_until(one, "augment")
    alone, together = train_with_one_and_two(one)
    first = min(key for key in alone if key[1] == "train/loss")
    assert together[first] == pytest.approx(alone[first], rel=1e-5)
