"""The only door to DVC: which stages are stale, run one, and under which digest its result is kept.

DVC's command line is used, not its Python objects: the command line is its stable side, and importing it takes a second.
"""

import json
import subprocess
import time
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
"""What DVC says around a stage, in the flow's own words elsewhere; the warning is that it cleared a dead process's lock."""


@dataclass(frozen=True)
class Outcome:
    """What came of running one stage."""

    state: Literal["ran", "restored", "up to date", "failed"]
    """`restored`: the same result was made before and came back from DVC's cache."""
    seconds: float
    message: str = ""
    """Why it failed: the stage's own paragraph."""
    told: bool = False
    """The stage has said so in the terminal."""


def prepare(project: Project) -> bool:
    """Make sure the project lies in a DVC repository; outside of any, the folder becomes one.

    Returns:
        Whether a repository was made.
    """
    if any((folder / ".dvc").is_dir() for folder in (project.folder, *project.folder.parents)):
        return False
    _dvc(project, "init", "--no-scm", "--quiet")
    return True


def write_dvc_yaml(project: Project, params: Params) -> str | None:
    """Bring dvc.yaml up to date; returns what was done, None if it was."""
    text, path = dvc_yaml(project.folder, params), project.folder / FILE
    known = path.is_file()
    if known and path.read_text(encoding="utf-8") == text:
        return None
    artifacts.write_atomically(path, text)
    return f"wrote {FILE}, which did not match the table of stages" if known else f"made {FILE}"


def status(project: Project) -> dict[str, list[Any]]:
    """What `dvc status --json` says: stage -> its changes, stages without changes left out.

    Raises:
        ValueError: If DVC cannot tell; carries its words.
    """
    answer: dict[str, list[Any]] = json.loads(
        _dvc(project, "--wait-for-lock", "status", "--json", FILE) or "{}"
    )
    # A stage of a dvc.yaml elsewhere than in the working directory is called `folder/dvc.yaml:stage`.
    return {name.rsplit(":", 1)[-1]: changes for name, changes in answer.items()}


def repro(project: Project, stage: str, *, force: bool = False) -> Outcome:
    """Run one stage if DVC finds it stale, or if told to; the terminal sees the stage, not DVC.

    The stages before it are not looked at: the flow runs them first.
    """
    started = time.monotonic()
    command = ["dvc", "--wait-for-lock", "repro", "--single-item", *(["--force"] if force else []), stage]
    ended = subprocesses.run(command, cwd=project.folder, env=project.child_environment(), hide=_CHATTER)
    if ended.code and _sweep_run_cache(project):
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


def _sweep_run_cache(project: Project) -> bool:
    """Remove what a killed DVC left in its run-cache: for ever after it stumbles over an entry without a file.

    Returns:
        Whether there was any.
    """
    empty = [
        folder
        for folder in (root(project) / ".dvc" / "cache" / "runs").glob("*/*")
        if not any(folder.iterdir())
    ]
    for folder in empty:
        folder.rmdir()
    return bool(empty)


def check_out(project: Project, stages: tuple[str, ...], *, cache_of: Project) -> None:
    """Lay the results that a project's dvc.lock names into its folder, from another project's cache, or else from its remote.

    Raises:
        ValueError: If neither has them, or DVC cannot; in its words.
    """
    targets = [f"artifacts/{stage}" for stage in stages]
    _dvc(project, "init", "--no-scm", "--quiet", "--force")
    _dvc(project, "cache", "dir", str(root(cache_of) / ".dvc" / "cache"))
    try:
        _dvc(project, "checkout", "--quiet", *targets)
    except ValueError as missing:
        if not _take_remote(project, cache_of):
            raise ValueError(
                f"DVC's cache does not hold {' and '.join(targets)} as they were, and there is no remote to fetch them from; put the cache "
                "back, or name a remote that has them: dvc remote add -d NAME URL"
            ) from missing
        _dvc(project, "fetch", "--quiet", *targets)
        _dvc(project, "checkout", "--quiet", *targets)


def _take_remote(project: Project, other: Project) -> bool:
    """Let a project fetch from where another one does; returns whether that has a remote. What is secret stays where it is."""
    settings = [line.partition("=") for line in _dvc(other, "config", "--list", "--project").splitlines()]
    for key, _, value in settings:
        if key == "core.remote" or key.startswith("remote."):
            _dvc(project, "config", key, value)
    secret, here = root(other) / ".dvc" / "config.local", root(project) / ".dvc" / "config.local"
    if secret.is_file() and not here.exists():
        here.symlink_to(secret)
    return bool(_dvc(other, "remote", "list").strip())


def root(project: Project) -> Path:
    """The DVC repository that a project lies in."""
    return next(folder for folder in (project.folder, *project.folder.parents) if (folder / ".dvc").is_dir())


def recorded(project: Project) -> dict[str, Any]:
    """The stages of dvc.lock: what each was last made from, and what it made. Empty if there is no lock yet."""
    return read_yaml(project.folder / LOCK_FILE).get("stages", {})


def recorded_params(entry: dict[str, Any]) -> dict[str, Any]:
    """The parameters a stage of dvc.lock was made with, section -> value."""
    return entry.get("params", {}).get(PARAMS_FILE, {})


def current_params(project: Project) -> dict[str, Any]:
    """The sections of params.yaml as they are written, to be held against dvc.lock's."""
    return read_yaml(project.folder / PARAMS_FILE)


def out_digest(project: Project, stage: str) -> str | None:
    """Under which digest DVC keeps a stage's result (32 hexadecimal digits and `.dir`); None if it never ran."""
    for out in recorded(project).get(stage, {}).get("outs", []):
        return str(out["md5"])
    return None


def read_yaml(path: Path) -> dict[str, Any]:
    """The content of a YAML file; empty if there is none."""
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
        words = " ".join(done.stderr.split()).removeprefix("ERROR: ") or f"status {done.returncode}"
        if "is busy, it is being blocked by" in words:
            raise ValueError(
                f"DVC is at work in {project.folder}, for a run that goes on; ask again when it has ended, or between two of its stages"
            )
        raise ValueError(f"`dvc {' '.join(arguments)}` in {project.folder} failed: {words}")
    return done.stdout
