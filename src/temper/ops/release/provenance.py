"""From what exactly a version was made, kept with its run; and the way back: make it again in a folder of its own.

Kept are dvc.lock, params.yaml, the kept splits, the revision of the code and what was not committed. DVC's cache has the data under the digests that
dvc.lock names. Nothing of the user's git is touched: the code is taken out of its history into the other folder.
"""

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

from mlflow.artifacts import download_artifacts
from mlflow.tracking import MlflowClient

from temper import artifacts
from temper.artifacts import digest_file
from temper.config import FILE as PARAMS_FILE
from temper.config import Params
from temper.ops import dvc
from temper.ops.mlflow import model_versions
from temper.ops.project import ROOT, Project
from temper.ops.system import failure_messages, subprocesses

FOLDER, CODE, CHANGES = "made-from", "code.json", "uncommitted.diff"
_SOURCES = ("src", "flows", "tasks")
_KEPT = ("ingest",)
"""Stages whose result is taken from DVC's cache; the others run again."""


def keep(client: MlflowClient, project: Project, params: Params, run: str) -> None:
    """Keep what the model that lies in the artifacts was made from, with a run."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in (dvc.LOCK_FILE, PARAMS_FILE, params.prepare.splits):
            if (project.folder / file).is_file():
                shutil.copyfile(project.folder / file, folder / Path(file).name)
        revision = _git("rev-parse", "HEAD").decode().strip()
        (folder / CODE).write_text(
            json.dumps({"revision": revision or None}, indent=2) + "\n", encoding="utf-8"
        )
        (folder / CHANGES).write_bytes(_changes())
        client.log_artifacts(run, name, FOLDER)


def reproduce(client: MlflowClient, project: Project, params: Params, number: int) -> str:
    """Make a version again from what is kept of it, in `.temper/reproduced/VERSION`; returns what came of it.

    Raises:
        ValueError: If what it was made from is not all there, a stage fails, or another model comes out.
    """
    version = model_versions.named(project, params.project, version=number)
    if version is None:
        raise ValueError(
            f"{params.project} has no version {number}; `make history` and `make ui` show what there is"
        )
    run = client.get_model_version(params.project, str(number)).run_id
    scratch = project.hidden / "reproduced" / str(number)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        kept = Path(download_artifacts(run_id=run, artifact_path=FOLDER, dst_path=str(scratch / "kept")))
    except Exception as error:  # MLflow's and the file system's own
        raise ValueError(
            f"version {number} was registered without a record of what it was made from ({error})"
        ) from error
    code, place = scratch / "code", Project(scratch / "project")
    _take_out(json.loads((kept / CODE).read_text(encoding="utf-8"))["revision"], kept / CHANGES, code)
    place.folder.mkdir()
    for path in kept.iterdir():
        if path.name not in (CODE, CHANGES):
            shutil.copyfile(path, place.folder / path.name)
    environment = {**place.child_environment(), "PYTHONPATH": str(code / "src")}
    _run([sys.executable, "-m", "temper", "dvc-yaml", "--project", str(place.folder)], code, environment)
    dvc.check_out(place, _KEPT, cache_of=project)
    from temper.stages import STAGES

    for stage in STAGES:
        if stage.name not in (*_KEPT, "evaluate"):
            _run(
                [sys.executable, "-m", "temper", "stage", stage.name, "--project", str(place.folder)],
                code,
                environment,
            )
    made = artifacts.load("quantize", place.artifacts / "quantize")
    digests = {digest_file(made.path(name)) for name in made.files}
    if version.digest not in digests:
        raise ValueError(
            f"another model came out than version {number} ({version.digest[:12]}): see {place.artifacts / 'quantize'}. The same machine and the same "
            "packages (requirements.lock) give the same digest; others need not"
        )
    return f"version {number} was made again in {place.folder}: the same digest, {version.digest[:12]}"


def _run(command: list[str], code: Path, environment: dict[str, str]) -> None:
    ended = subprocesses.run(command, cwd=code, env=environment)
    if ended.code:
        raise ValueError(f"{command[3]}: {failure_messages.read(command[3], ended)[0]}")


def _take_out(revision: str | None, changes: Path, target: Path) -> None:
    """The code of a revision with changes that were not committed, in another folder."""
    if revision is None:
        raise ValueError(
            "the code was in no git repository when the version was made, so it cannot be taken out again"
        )
    packed = _git("archive", "--format=tar", revision, "src", "pyproject.toml")
    if not packed:
        raise ValueError(
            f"git has no revision {revision[:12]} any more; fetch it, and run the same command again"
        )
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(target, filter="data")
    if changes.stat().st_size:
        done = subprocess.run(
            [
                "git",
                "apply",
                "--unsafe-paths",
                "--include=src/*",
                f"--directory={target}",
                str(changes.resolve()),
            ],
            cwd=target,
            capture_output=True,
            text=True,
            env={**os.environ, "GIT_CEILING_DIRECTORIES": str(target.parent)},
            check=False,
        )
        if done.returncode:
            raise ValueError(
                f"the changes that were not committed could not be put on top of {revision[:12]}: {done.stderr.strip()}"
            )


def _changes() -> bytes:
    """What is not committed of the code, new files included, as a patch."""
    known = _git("diff", "HEAD", "--", *_SOURCES)
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *_SOURCES).decode().split("\0")
    return known + b"".join(_git("diff", "--no-index", "--", os.devnull, name) for name in new if name)


def _git(*arguments: str) -> bytes:
    """What git answers; nothing outside git."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    # A difference without an index ends with 1 where there is one.
    return done.stdout if done.returncode in (0, 1) else b""
