"""The only module that calls DVC: find stale stages, run a stage, look up the digest of its result.

It calls DVC's command line instead of its Python objects: the command line is DVC's stable interface, and
importing DVC takes a second.
"""

import json
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ruamel.yaml import YAML

from temper import artifacts
from temper.config import FILE as PARAMS_FILE
from temper.config import Params
from temper.ops.project import Project
from temper.ops.system import failure_messages, subprocesses
from temper.stages.dvc_yaml import dvc_yaml

FILE = "dvc.yaml"
LOCK_FILE = "dvc.lock"

_RESTORED = "is cached - skipping run"
_UNCHANGED = "didn't change, skipping"
_CHATTER = (
    "Running stage '",
    "> exec python ",
    "> python ",
    "Stage '",
    "Generating lock file",
    "Updating lock file",
    "Use `dvc push`",
    "To track the changes with git",
    "To enable auto staging",
    "\tgit add",
    "\tdvc config",
    "Data and pipelines are up to date",
    "Adding '",
    "ERROR: failed to reproduce",
    "WARNING: Process '",
)
"""Beginnings of the lines that DVC prints around a stage.

They are hidden, since the flow reports the same in its own words. The warning means that DVC removed the lock
of a dead process.
"""

_SECONDS_TO_WRITE = 1.0
"""An entry of the run-cache that has been empty for longer is a killed DVC's."""


@dataclass(frozen=True)
class Outcome:
    """The result of running one stage."""

    state: Literal["ran", "restored", "up to date", "failed"]
    """`restored`: DVC had the same result in its cache and restored it."""
    seconds: float
    message: str = ""
    """Why the stage failed, as one paragraph."""
    told: bool = False
    """Whether the stage itself has printed the message."""


def prepare(project: Project) -> bool:
    """Make sure that the project is in a DVC repository; if it is in none, make its folder one.

    Returns:
        Whether a repository was created.
    """
    if any((folder / ".dvc").is_dir() for folder in (project.folder, *project.folder.parents)):
        return False
    _dvc(project, "init", "--no-scm", "--quiet")
    return True


def write_dvc_yaml(project: Project, params: Params) -> str | None:
    """Bring dvc.yaml up to date; returns what was done, or None if it was up to date."""
    text, path = dvc_yaml(project.folder, params), project.folder / FILE
    known = path.is_file()
    if known and path.read_text(encoding="utf-8") == text:
        return None
    artifacts.write_atomically(path, text)
    return f"rewrote {FILE}: it did not match the table of stages" if known else f"wrote {FILE}"


def status(project: Project) -> dict[str, list[Any]]:
    """Return the result of `dvc status --json`: stage -> its changes, without unchanged stages.

    Raises:
        ValueError: If DVC fails; contains DVC's message.
    """
    answer: dict[str, list[Any]] = json.loads(
        _dvc(project, "--wait-for-lock", "status", "--json", FILE) or "{}"
    )
    # If dvc.yaml is not in the working directory, DVC calls a stage `folder/dvc.yaml:stage`.
    return {name.rsplit(":", 1)[-1]: changes for name, changes in answer.items()}


def repro(project: Project, stage: str, *, force: bool = False) -> Outcome:
    """Run one stage if DVC finds it stale, or in any case with `force`.

    The terminal shows the stage's output without DVC's own lines. Earlier stages are not checked: the flow
    runs them first.
    """
    started = time.monotonic()
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", *(["--force"] if force else []), stage]
    ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment(), hide=_CHATTER)
    if ended.code and _clean_run_cache(project):
        ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment(), hide=_CHATTER)
    seconds = time.monotonic() - started
    if ended.code:
        message, told = failure_messages.read(stage, ended)
        return Outcome("failed", seconds, message, told)
    if any(_RESTORED in line for line in ended.out + ended.err):
        return Outcome("restored", seconds)
    if any(_UNCHANGED in line for line in ended.out + ended.err):
        return Outcome("up to date", seconds)
    return Outcome("ran", seconds)


def _clean_run_cache(project: Project) -> bool:
    """Remove entries without a file from DVC's run-cache.

    A killed DVC leaves such entries, and every later run fails on them. A project that shares the cache
    may be about to write an entry, so those of the last second stay.

    Returns:
        Whether any was removed.
    """
    try:
        entries = list((cache_folder(project) / "runs").glob("*/*"))
    except ValueError:
        return False  # DVC itself is broken; the failure of the stage says why
    removed = False
    for folder in entries:
        with suppress(OSError):  # not empty, or another project has removed it
            if time.time() - folder.stat().st_mtime > _SECONDS_TO_WRITE:
                folder.rmdir()
                removed = True
    return removed


def check_out(project: Project, stages: tuple[str, ...], *, cache_of: Project) -> None:
    """Restore the stage results that a project's dvc.lock names into the project's folder.

    They come from the cache of another project or, if they are missing there, from that project's remote.

    Args:
        project: Project whose results are restored.
        stages: Stages whose results are restored.
        cache_of: The other project.

    Raises:
        ValueError: If neither the cache nor the remote has them, or DVC fails; contains DVC's message.
    """
    targets = [f"artifacts/{stage}" for stage in stages]
    _dvc(project, "init", "--no-scm", "--quiet", "--force")
    _dvc(project, "cache", "dir", str(cache_folder(cache_of)))
    try:
        _dvc(project, "checkout", "--quiet", *targets)
    except ValueError as missing:
        if not _copy_remote(project, cache_of):
            raise ValueError(
                f"DVC's cache does not contain the recorded versions of {' and '.join(targets)}, and there "
                "is no DVC remote to fetch them from; restore the cache, or add a remote that has them: "
                "dvc remote add -d NAME URL"
            ) from missing
        _dvc(project, "fetch", "--quiet", *targets)
        _dvc(project, "checkout", "--quiet", *targets)


def _copy_remote(project: Project, other: Project) -> bool:
    """Copy the remotes of another project into a project's DVC settings; returns whether there are any.

    Secrets stay where they are: `config.local` is linked, not copied.
    """
    settings = [line.partition("=") for line in _dvc(other, "config", "--list", "--project").splitlines()]
    for key, _, value in settings:
        if key == "core.remote" or key.startswith("remote."):
            _dvc(project, "config", key, value)
    secret, here = root(other) / ".dvc" / "config.local", root(project) / ".dvc" / "config.local"
    if secret.is_file() and not here.exists():
        here.symlink_to(secret)
    return bool(_dvc(other, "remote", "list").strip())


def root(project: Project) -> Path:
    """Return the DVC repository that contains a project."""
    return next(folder for folder in (project.folder, *project.folder.parents) if (folder / ".dvc").is_dir())


def cache_folder(project: Project) -> Path:
    """Return the folder of DVC's cache, which several repositories may share (`dvc cache dir`)."""
    return Path(_dvc(project, "cache", "dir").strip())


def recorded(project: Project) -> dict[str, Any]:
    """Return the stages of dvc.lock, with the inputs and outputs of their last runs; empty if none ran."""
    return read_yaml(project.folder / LOCK_FILE).get("stages", {})


def recorded_params(entry: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters with which a stage of dvc.lock was run, section -> value."""
    return entry.get("params", {}).get(PARAMS_FILE, {})


def current_params(project: Project) -> dict[str, Any]:
    """Return the sections of params.yaml as they are written, for comparison with those in dvc.lock."""
    return read_yaml(project.folder / PARAMS_FILE)


def out_digest(project: Project, stage: str) -> str | None:
    """Return the digest under which DVC stores a stage's result, or None if the stage never ran.

    The digest is 32 hexadecimal digits and `.dir`.
    """
    for out in recorded(project).get(stage, {}).get("outs", []):
        return str(out["md5"])
    return None


def read_yaml(path: Path) -> dict[str, Any]:
    """Return the content of a YAML file; empty if there is no file."""
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8") as stream:
        return YAML(typ="safe").load(stream) or {}


def _dvc(project: Project, *arguments: str) -> str:
    environment = project.child_environment()
    done = subprocess.run(
        ["dvc", *arguments], cwd=project.folder, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode:
        message = " ".join(done.stderr.split()).removeprefix("ERROR: ") or f"status {done.returncode}"
        if "is busy, it is being blocked by" in message:
            raise ValueError(
                f"DVC is busy in {project.folder}: a run is using it; try again when that run has ended, or "
                "when it is between two stages"
            )
        raise ValueError(f"`dvc {' '.join(arguments)}` in {project.folder} failed: {message}")
    return done.stdout
