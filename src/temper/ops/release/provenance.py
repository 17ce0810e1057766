"""Stores the exact inputs of a version with its run, and makes the version again from them in another folder.

Stored are dvc.lock, params.yaml, the splits, the revision of the code and the uncommitted changes. DVC's
cache has the data under the digests that dvc.lock names. The user's git repository is only read: the code of
the revision is unpacked into the other folder.
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
from temper.make_command import ROOT
from temper.ops import dvc
from temper.ops.mlflow import model_versions
from temper.ops.project import Project
from temper.ops.system import failure_messages, subprocesses

FOLDER, CODE, CHANGES = "made-from", "code.json", "uncommitted.diff"
_SOURCES = ("src", "flows", "tasks")
_KEPT = ("ingest",)
"""Stages whose results come from DVC's cache; the other stages run again."""


def keep(client: MlflowClient, project: Project, params: Params, run: str) -> None:
    """Store the inputs of the model in the artifacts with an MLflow run."""
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
    """Make a version again from its stored inputs, in `.temper/reproduced/VERSION`; returns a message.

    Raises:
        ValueError: If an input is missing, a stage fails, or the result is another model.
    """
    version = model_versions.named(project, params.project, version=number)
    if version is None:
        raise ValueError(
            f"{params.project} has no version {number}; `{project.make('history')}` and "
            f"`{project.make('ui')}` show what exists"
        )
    run = client.get_model_version(params.project, str(number)).run_id
    scratch = project.hidden / "reproduced" / str(number)
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        kept = Path(download_artifacts(run_id=run, artifact_path=FOLDER, dst_path=str(scratch / "kept")))
    except Exception as error:  # MLflow raises its own errors and those of the file system
        raise ValueError(
            f"version {number} cannot be made again: its run has no readable record of its inputs ({error})"
        ) from error
    code, place = scratch / "code", Project(scratch / "project")
    _unpack_code(json.loads((kept / CODE).read_text(encoding="utf-8"))["revision"], kept / CHANGES, code)
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
            f"the new model is not version {number} ({version.digest[:12]}): see "
            f"{place.artifacts / 'quantize'}. Only the same machine with the same packages "
            "(requirements.lock) is certain to give the same digest"
        )
    return f"version {number} was made again in {place.folder}: the same digest, {version.digest[:12]}"


def _run(command: list[str], code: Path, environment: dict[str, str]) -> None:
    ended = subprocesses.run(command, cwd=code, env=environment)
    if ended.code:
        stage = command[4]
        raise ValueError(f"{stage}: {failure_messages.read(stage, ended)[0]}")


def _unpack_code(revision: str | None, changes: Path, target: Path) -> None:
    """Unpack the code of a revision into another folder and apply the uncommitted changes to it."""
    if revision is None:
        raise ValueError(
            "the code was in no git repository when the version was made, so it cannot be restored"
        )
    packed = _git("archive", "--format=tar", revision, "src", "pyproject.toml")
    if not packed:
        raise ValueError(
            f"git does not have revision {revision[:12]} any more; fetch it and run the same command again"
        )
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        # Pythons before 3.11.4, such as Debian 12's, know no filters; the archive comes from git.
        archive.extraction_filter = getattr(tarfile, "data_filter", None)
        archive.extractall(target)
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
                f"the uncommitted changes could not be applied to revision {revision[:12]}: "
                f"{done.stderr.strip()}"
            )


def _changes() -> bytes:
    """Return the uncommitted changes of the code, including new files, as a patch."""
    known = _git("diff", "HEAD", "--", *_SOURCES)
    new = _git("ls-files", "--others", "--exclude-standard", "-z", "--", *_SOURCES).decode().split("\0")
    return known + b"".join(_git("diff", "--no-index", "--", os.devnull, name) for name in new if name)


def _git(*arguments: str) -> bytes:
    """Return git's output; empty if git fails, as it does outside a repository."""
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    # `git diff --no-index` ends with status 1 if there is a difference.
    return done.stdout if done.returncode in (0, 1) else b""
