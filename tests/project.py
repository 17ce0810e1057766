"""Small projects on generated images, one for each kind of problem, in a folder of the test."""

import json
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

from temper import artifacts
from temper.artifacts import Artifact, digest_file
from temper.ops.project import Project
from temper.stages import BY_NAME, STAGES
from temper.stages import run_stage as stage_runner

ROOT = Path(__file__).parents[1]
OUTPUT = "output"
"""File beside the finished project of `tests/pipeline` with the output of its run."""
TEMPLATE = """
project: toys-{kind}
seed: 0
problem: {problem}
ingest: {{source: toys, truth: {truth}, count: {count}, size_px: 16}}
prepare: {{height_px: 16, width_px: 16, validation_share: 0.2, test_share: 0.25}}
augment: {augment}
train:
  ranks: 1
  backbone: {{family: small-resnet, widths: [8, 16], depths: [1, 1]}}
  views: {{flip: true, crop_px: 1}}
  fit: {{epochs: {epochs}, batch_size: 32, lr: 0.1, average_decay: 0.9, precision: fp32, layout: contiguous}}
distill:
  ranks: 1
  backbone: {{family: small-resnet, widths: [8], depths: [1]}}
  views: {{flip: true, crop_px: 1}}
  fit: {{epochs: {epochs}, batch_size: 32, lr: 0.1, average_decay: 0.9, precision: fp32, layout: contiguous}}
  terms: {{}}
quantize: {{calibration_images: 64, parity_images: 32}}
evaluate: {{families: [{families}], stress_images: 40, bootstrap: 50}}
gate: {{rules: [{{metric: headline, max_drop: 0.05}}]}}
"""
KINDS = {
    "multiclass": ("class", "{kind: multiclass}"),
    "multilabel": ("labels", "{kind: multilabel}"),
    "segmentation": ("mask", "{kind: segmentation, classes: [background, circle, square, triangle, cross]}"),
    "regression": ("value", "{kind: regression, unit: px}"),
    "detection": ("boxes", "{kind: detection, cells_px: [2, 4], most: 20}"),
    "keypoints": ("points", "{kind: keypoints, cell_px: 2}"),
    "retrieval": ("item", "{kind: retrieval}"),
    "three inputs": ("class", "{kind: multiclass, inputs: [image, text, table]}"),
    "text": ("class", "{kind: multiclass, inputs: [text]}"),
    "clip": ("class", "{kind: multiclass, inputs: [clip]}"),
}
_TEXT = {
    "height_px: 16, width_px: 16, ": "text_bytes: 64, ",
    "{flip: true, crop_px: 1}": "{}",
    "{family: small-resnet, widths: [8, 16], depths: [1, 1]}": "{family: text-convolutions}",
    "{family: small-resnet, widths: [8], depths: [1]}": "{family: text-convolutions, widths: [16, 16]}",
}
_CLIP = {"width_px: 16, ": "width_px: 16, clip_frames: 4, ", "{flip: true, crop_px: 1}": "{crop_px: 1}"}
OTHER = {"text": _TEXT, "clip": _CLIP}
"""Kind -> what is different in a project without images."""


def toy_params(
    kind: str,
    *,
    count: int = 240,
    epochs: int = 2,
    augment: str = "{balance: {method: none}}",
    families: str = "occlusion, illumination, noise",
) -> str:
    """Return the params.yaml of a toy project with one kind of problem."""
    truth, problem = KINDS[kind]
    inputs = re.search(r"inputs: \[.*\]", problem)
    text = TEMPLATE.replace("size_px: 16}}", f"size_px: 16, {inputs[0]}}}}}" if inputs else "size_px: 16}}")
    for old, new in OTHER.get(kind, {}).items():
        old, new = (each.replace("{", "{{").replace("}", "}}") for each in (old, new))
        text = text.replace(old, new)
    return text.format(
        kind=kind.replace(" ", "-"),
        truth=truth,
        problem=problem,
        count=count,
        epochs=epochs,
        augment=augment,
        families=families,
    )


def make_project(folder: Path, kind: str, **settings: Any) -> Path:
    """Write the params.yaml of a toy project; `settings` are those of `toy_params`."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "params.yaml").write_text(toy_params(kind, **settings), encoding="utf-8")
    return folder


def copy_project(origin: Path, target: Path) -> Path:
    """Copy a project with all its results, so that the copy does not depend on the original.

    MLflow stores absolute paths, in its database and its files; they become those of the copy. The target
    must be as deep in the file system as the original, because dvc.lock contains relative paths.
    """
    shutil.copytree(origin, target, symlinks=True)
    project = Project.at(target)
    old, new = str(origin), str(target)
    with closing(sqlite3.connect(project.database)) as database, database:
        for (table,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall():
            for _, column, kind, *_ in database.execute(f"PRAGMA table_info({table})").fetchall():
                if kind.startswith(("VARCHAR", "TEXT")):
                    change = f"UPDATE {table} SET {column} = replace({column}, ?, ?) WHERE {column} LIKE ?"
                    database.execute(change, (f"{old}/", f"{new}/", f"%{old}/%"))
    for name in ("MLmodel", "*.yaml", "*.json"):
        for file in project.runs.rglob(name):
            text = file.read_text(encoding="utf-8")
            if f"{old}/" in text:
                file.write_text(text.replace(f"{old}/", f"{new}/"), encoding="utf-8")
    with closing(sqlite3.connect(project.database)) as database, database:
        # The files have changed, so the digests that each version records must change too.
        for version, listed in database.execute(
            "SELECT version, value FROM model_version_tags WHERE key = 'files'"
        ).fetchall():
            where = "SELECT COALESCE(storage_location, source) FROM model_versions WHERE version = ?"
            folder = Path(database.execute(where, (version,)).fetchone()[0].removeprefix("file://"))
            digests = {name: digest_file(folder / name) for name in json.loads(listed)}
            change = "UPDATE model_version_tags SET value = ? WHERE key = 'files' AND version = ?"
            database.execute(change, (json.dumps(digests), version))
    return target


COMMANDS = {name: [sys.executable, "-m", "flows", name] for name in ("pipeline", "retrain", "schedule")} | {
    name: [sys.executable, "-m", "temper", name]
    for name in ("compare", "promote", "rollback", "history", "reproduce", "drift", "plan", "restore")
}
"""Name of a command -> the command line that starts it."""


def tell(
    project: Path, name: str, *arguments: str, code: int = 0, environment: Mapping[str, str] | None = None
) -> str:
    """Run a command on a project and check its exit status; returns stdout and stderr.

    Args:
        project: Folder of the project.
        name: Name in `COMMANDS`.
        arguments: Further arguments of the command.
        code: Expected exit status.
        environment: Variables that are added to those of this process.
    """
    done = subprocess.run(
        [*COMMANDS[name], "--project", str(project), *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **(environment or {})},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == code, done.stdout[-3000:] + done.stderr[-3000:]
    return done.stdout + done.stderr


def free_port() -> int:
    """Return a port of 127.0.0.1 on which no process listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def run_stage(project: Path, stage: str) -> subprocess.CompletedProcess[str]:
    """Run one stage as DVC runs it, but without DVC."""
    command = [sys.executable, "-m", "temper", "stage", stage, "--project", str(project)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )


def run_in_process(project: Path, stage: str) -> Artifact:
    """Run one stage in this process and return its artifact."""
    stage_runner.run_stage(BY_NAME[stage], project, in_process=True)
    return artifacts.load(stage, project / "artifacts" / stage)


def run_until(project: Path, last: str) -> None:
    """Run the stages up to and including `last` in this process."""
    for stage in STAGES:
        run_in_process(project, stage.name)
        if stage.name == last:
            return
