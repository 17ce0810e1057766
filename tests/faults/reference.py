"""The undisturbed project: each trial starts from a copy of it, and must end with the same results."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from temper.ops import dvc
from temper.ops.pipeline.summary import known_seconds
from temper.ops.project import Project
from tests.faults import shim
from tests.faults.plans import STAGE_NAMES, Start
from tests.faults.runs import Run
from tests.faults.verdict import facts
from tests.project import copy_project, make_project

_EPOCHS = 16


@dataclass(frozen=True)
class Reference:
    """A project whose pipeline ran without a fault."""

    project: Project
    facts: dict[str, Any]
    seconds: dict[str, float]
    """Step -> seconds."""
    whole: "Extent"
    """Extent of the whole run."""

    def extent(self, start: Start) -> "Extent":
        """Estimate the extent of an undisturbed run from a given state."""
        steps = (
            {*start.worn}
            | ({"measure"} if start.nothing else set())
            | ({"register"} if not start.tracking else set())
        )
        spared_s = sum(seconds for step, seconds in self.seconds.items() if step not in steps)
        return Extent(
            self.whole.seconds - spared_s, int(self.whole.bytes * (1 + len(steps)) / (1 + len(self.seconds)))
        )


@dataclass(frozen=True)
class Extent:
    """The seconds that a run takes, and the bytes that it writes."""

    seconds: float
    bytes: int


def make_reference(work: Path, ranks: int, library: Path | None, *, epochs: int = _EPOCHS) -> Reference:
    """Run the pipeline of a small project to its end, without a fault.

    Raises:
        AssertionError: If it fails: then there is nothing to compare trials with.
    """
    folder = work / f"reference-{ranks}"
    make_project(folder, "multiclass", epochs=epochs, families="noise")
    path = folder / "params.yaml"
    text = path.read_text(encoding="utf-8").replace("ranks: 1", f"ranks: {ranks}")
    path.write_text(
        text.replace("average_decay: 0.9", "average_decay: 0.9, checkpoint_s: 1.0"), encoding="utf-8"
    )
    project, logs = Project.at(folder), work / "logs"
    logs.mkdir(exist_ok=True)
    control = None if library is None else shim.Control(logs / f"control-{ranks}", library, project.folder)
    run = Run(project, logs / f"reference-{ranks}", control and control.environment)
    code = run.wait()
    whole = Extent(run.seconds, 0 if control is None else control.written)
    assert code == 0, f"the undisturbed run failed with status {code}:\n{run.said}{run.errors}"
    return Reference(project, facts(project), known_seconds(project), whole)


def start_from(reference: Reference, folder: Path, start: Start) -> Project:
    """Copy the reference, in a state from which something must run.

    The copy has the same depth as the reference, so that the paths in dvc.lock stay valid.
    """
    shutil.rmtree(folder, ignore_errors=True)
    if start.nothing:
        folder.mkdir()
        shutil.copy(reference.project.folder / "params.yaml", folder)
        return Project.at(folder)
    project = Project.at(copy_project(reference.project.folder, folder))
    if not start.tracking:
        shutil.rmtree(project.runs)
    if not start.prefect:
        shutil.rmtree(project.prefect_home)
    if start.worn:
        _wear(project, start.worn)
    return project


def _wear(project: Project, stages: tuple[str, ...]) -> None:
    """Make stages run again: remove their artifacts and their entries in DVC's lock file and cache."""
    lock_path, cache = project.folder / dvc.LOCK_FILE, project.folder / ".dvc" / "cache"
    yaml = YAML(typ="safe")
    lock = yaml.load(lock_path.read_text(encoding="utf-8"))
    objects = {name: _objects(cache, str(dvc.out_digest(project, name))) for name in STAGE_NAMES}
    kept = {digest for name, found in objects.items() if name not in stages for digest in found}
    for name in stages:
        shutil.rmtree(project.artifacts / name)
        del lock["stages"][name]
        for digest in objects[name] - kept:
            _object(cache, digest).unlink(missing_ok=True)
        for file in [path for path in (cache / "runs").rglob("*") if path.is_file()]:
            if yaml.load(file.read_text(encoding="utf-8"))["cmd"].endswith(f" {name}"):
                file.unlink()
                # An empty folder makes DVC fail, and that is not a fault that the trial is meant to test.
                file.parent.rmdir()
    with lock_path.open("w", encoding="utf-8") as stream:
        YAML().dump(lock, stream)


def _objects(cache: Path, digest: str) -> set[str]:
    """Return the digests of an output in DVC's cache: of its list of files, and of the files."""
    listed = json.loads(_object(cache, digest).read_text(encoding="utf-8"))
    return {digest, *(entry["md5"] for entry in listed)}


def _object(cache: Path, digest: str) -> Path:
    return cache / "files" / "md5" / digest[:2] / digest[2:]
