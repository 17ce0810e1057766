"""Fixture that runs a chain of stages with given parameters, in a temporary folder."""

from pathlib import Path
from typing import Any

import pytest

from temper.artifacts import Artifact
from temper.data.augmentation.params import AugmentParams
from temper.data.params import PrepareParams
from temper.data.source_params import Toys
from temper.problems.multiclass import Multiclass
from tests.unit.data.chain import Run, seal


@pytest.fixture
def run_chain(tmp_path: Path) -> Run:
    """Return a function that runs ingest, prepare and augment in `tmp_path` and returns their artifacts."""

    def run(last: str = "augment", **sections: Any) -> dict[str, Artifact]:
        params = {
            "seed": 1,
            "problem": Multiclass(kind="multiclass"),
            "ingest": Toys(source="toys", count=60, size_px=12),
            "prepare": PrepareParams(height_px=12, width_px=12),
            "augment": AugmentParams(),
        } | sections
        made: dict[str, Artifact] = {}
        for stage, inputs in {"ingest": (), "prepare": ("ingest",), "augment": ("prepare",)}.items():
            made[stage] = seal(stage, params, {name: made[name] for name in inputs}, tmp_path)
            if stage == last:
                break
        return made

    return run
