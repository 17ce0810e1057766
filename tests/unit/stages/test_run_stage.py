"""A stage whose parameters or code change while it runs."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from temper.stages import augment, run_stage
from tests.project import make_project, run_in_process, run_until

Change = Callable[[Path], None]


def another_value(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("method: none", "method: weights"))


def another_section(project: Path) -> None:
    path = project / "params.yaml"
    path.write_text(path.read_text().replace("lr: 0.1", "lr: 0.2"))


@pytest.mark.parametrize(
    ("change", "refused"),
    [(another_value, "parameters of augment changed while it ran"), (another_section, None)],
)
def test_parameters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Change, refused: str | None):
    project = make_project(tmp_path / "project", "multiclass")
    run_until(project, "prepare")
    whole = augment.run

    def run(*arguments: Any, **more: Any) -> dict[str, Any]:
        change(project)
        return whole(*arguments, **more)

    monkeypatch.setattr(augment, "run", run)
    if refused is None:
        run_in_process(project, "augment")
        return
    with pytest.raises(ValueError, match=f"{refused}, so its result was not stored; run the same command"):
        run_in_process(project, "augment")
    assert not (project / "artifacts" / "augment").exists()


def test_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    project = make_project(tmp_path / "project", "multiclass")
    run_until(project, "prepare")
    digests = iter("ab")
    monkeypatch.setattr(run_stage.artifacts, "digest_files", lambda *_: next(digests))
    with pytest.raises(ValueError, match="source files of augment changed while it ran"):
        run_in_process(project, "augment")
