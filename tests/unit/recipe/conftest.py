"""Fixtures of the tests in this folder."""

import pytest

from temper.engine import step_timing
from temper.recipe import new_project


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Time each network for two steps only, without pretrained weights."""
    monkeypatch.setattr(step_timing, "_ENOUGH", 2)
    monkeypatch.setattr(step_timing, "_ENOUGH_S", 0.0)
    monkeypatch.setattr(new_project, "find_weights", list)
