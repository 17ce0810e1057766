"""Before a run: is everything in place; and after runs that died: clear away what they left.

All of it is quick and imports neither Prefect nor MLflow; what a user can mend is a ValueError of one paragraph.
"""

import fcntl
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tasks import catalogue, sqlite, store, terminal
from tasks.project import MARK, Project
from temper import artifacts
from temper.params import FILE as PARAMS_FILE
from temper.params import Params, registered_weights
from temper.params import load as load_params
from temper.stages.dvc import dvc_yaml

MIN_FREE_BYTES = 1 << 30
"""Below this a run does not start: it would stop half-way, with the disk full for everyone else too."""


def preflight(project: Project, *, look: bool = False) -> tuple[Params, list[str]]:
    """Check a project before anything is started, and bring its dvc.yaml up to date.

    Args:
        project: Whose folder it is.
        look: Nothing will run: leave out what only a run needs.

    Returns:
        Its parameters, and a line for everything that was changed on the way.

    Raises:
        ValueError: If something must be mended first; names it, and the way out.
    """
    params = load_params(project.folder)
    said = []
    if not look:
        check_space(project)
        check_writable(project)
        if healed := store.heal_lock(project):
            said.append(healed)
    check_database(project)
    if store.prepare(project):
        said.append(f"{project.folder} lies in no DVC repository: made it one (.dvc)")
    if not look and (healed := store.heal_register(project)):
        said.append(healed)
    if not look:
        said += fetch_weights(project, params)
    if wrote := write_dvc_yaml(project, params):
        said.append(wrote)
    return params, said


def write_dvc_yaml(project: Project, params: Params) -> str | None:
    """Bring dvc.yaml up to date; returns what was done, None if it was."""
    text, path = dvc_yaml(project.folder, params), project.folder / store.FILE
    known = path.is_file()
    if known and path.read_text(encoding="utf-8") == text:
        return None
    artifacts.write_atomically(path, text)
    return f"wrote {store.FILE}, which did not match the table of stages" if known else f"made {store.FILE}"


def changed_params(project: Project, params: Params) -> str | None:
    """What to say if params.yaml is not what a run began with: DVC would run the next stage by it, and MLflow knows the old one.

    Returns:
        A paragraph; None if nothing that matters was changed.
    """
    try:
        if load_params(project.folder) == params:
            return None
        changed = "was edited"
    except ValueError as error:
        changed = f"was edited and is at fault ({error})"
    return (
        f"{project.folder / PARAMS_FILE} {changed} while this run went on; it ends here, since the stages left would follow the new file and the "
        "records the old one. What was made is kept: run the same command again"
    )


def check_rules(project: Project, params: Params) -> None:
    """Refuse rules of the gate on classes or conditions that the data do not have; `prepare` must be up to date.

    Raises:
        ValueError: Names the rule, the value, and what there is.
    """
    facts = artifacts.load("prepare", project.artifacts / "prepare", check_files=False).facts
    try:
        strata = [name for name, count in facts["counts"]["test"].items() if count]
        params.check_rules(strata=strata, channels=facts["facts"]["channels"])
    except ValueError as error:
        raise ValueError(f"{project.folder / PARAMS_FILE}: {error}") from None


def fetch_weights(project: Project, params: Params) -> list[str]:
    """Lay what training starts from, where that is a version in MLflow, where DVC watches it and a stage reads it.

    An alias may have moved since, so it is looked up before every run; what it names now is in the file, whose digest DVC knows.

    Returns:
        A line for each file that is new.
    """
    said = []
    for reference, name in registered_weights(params).items():
        source, sha256 = catalogue.locate(project, reference)
        target = project.folder / name
        if target.is_file() and artifacts.digest_file(target) == sha256:
            continue
        if not source.is_file() or artifacts.digest_file(source) != sha256:
            raise ValueError(f"{reference}: {source} is missing or damaged; name another version in transfer.weights")
        target.parent.mkdir(parents=True, exist_ok=True)
        artifacts.write_atomically(target, source.read_bytes())
        said.append(f"fetched {reference} ({sha256[:12]})")
    return said


def check_space(project: Project, least_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise ValueError if the project's disk is nearly full."""
    free = shutil.disk_usage(project.folder).free
    if free < least_bytes:
        raise ValueError(
            f"only {free / 2**30:.2f} GiB are free on the disk of {project.folder}, a run needs {least_bytes / 2**30:.1f}; "
            "free some and run it again"
        )


def check_writable(project: Project) -> None:
    """Raise ValueError if a folder that a run writes to cannot be written to."""
    for folder in (project.folder, project.artifacts, project.hidden, project.reports, project.runs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ValueError(f"cannot write to {folder}: {artifacts.explain(error)}") from error


def check_database(project: Project) -> None:
    """Raise ValueError if MLflow's database is damaged, or gone while there is a copy of it; names the way out."""
    if project.elsewhere is not None:
        return
    kept = _kept(project)
    damage = sqlite.damage(project.database)
    if damage is None and (catalogue.known(project) or not kept.is_file()):
        return
    usable = kept.is_file() and sqlite.damage(kept) is None
    if damage or usable:
        gone = "empty" if project.database.is_file() else "gone"
        found = f"is damaged ({damage})" if damage else f"is {gone} (to begin anew, delete {project.runs} as a whole)"
        if usable:
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(kept.stat().st_mtime))
            way = f"puts back the copy of {when}"
        else:
            way = "puts it aside and begins an empty one"
        raise ValueError(
            f"{project.database} {found}; `make restore PROJECT={project.folder}` {way}, and the next "
            f"`make pipeline PROJECT={project.folder}` registers again what the artifacts hold"
        )


def restore_database(project: Project) -> str:
    """Put MLflow's database aside and the last good copy, if there is one, in its place; returns what was done.

    Raises:
        ValueError: If MLflow is elsewhere.
    """
    if project.elsewhere is not None:
        raise ValueError(f"MLflow is at {project.store} (TEMPER_MLFLOW_URI), which keeps its own copies")
    there = project.database.exists()
    # With its journals, also where it is gone itself: they would spoil the copy.
    aside = sqlite.put_aside(project.database)
    said = f"kept {project.database} as {aside.name}" if there else f"{project.database} is gone"
    if not _kept(project).is_file() or sqlite.damage(_kept(project)):
        return f"{said}; there is no good copy, the next run begins an empty one"
    sqlite.copy(_kept(project), project.database)
    return f"{said}; put back {_kept(project)}"


def keep_database(project: Project) -> None:
    """Keep a copy of MLflow's database, which is good: it was just written to without complaint."""
    if project.elsewhere is None and sqlite.damage(project.database) is None:
        sqlite.copy(project.database, _kept(project))


def _kept(project: Project) -> Path:
    return project.runs / "mlflow.backup.db"


def forget_checkpoints(project: Project, stage: str) -> None:
    """Remove what a stage kept to go on from: its result is on record."""
    for folder in (project.hidden / "checkpoints").glob("*"):
        mark = folder / artifacts.STAGE_OF_CHECKPOINTS
        if mark.is_file() and mark.read_text(encoding="utf-8") == stage:
            shutil.rmtree(folder, ignore_errors=True)


class Busy(ValueError):
    """Another run holds the project."""


@contextmanager
def alone(project: Project, *, wait: bool = False) -> Iterator[None]:
    """Hold the project: two runs in one folder would tear each other's files.

    The lock is the kernel's, so it ends with the process that holds it, however that ends.

    Args:
        project: What is held.
        wait: Until the other run ends, instead of failing.

    Raises:
        Busy: If another run holds it.
    """
    project.hidden.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "lock").open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            holder = f"another run is working on {project.folder} (process {stream.read() or 'unknown'})"
            if not wait:
                raise Busy(
                    f"{holder}; wait for it or end it, then run the same command again (BUSY=wait waits)"
                ) from None
            print(f"{holder}; waiting for it to end", flush=True)
            fcntl.flock(stream, fcntl.LOCK_EX)
        stream.truncate(0)
        stream.write(str(os.getpid()))
        stream.flush()
        yield


def end_orphans(project: Project) -> list[str]:
    """End what an earlier run of this project left running when it was killed; call it while holding `alone`.

    Killing a run, or DVC, leaves the stage's process: it would go on training beside the next run, on the same files.

    Returns:
        A line for each process that was ended.
    """
    orphans = terminal.marked(MARK, str(project.folder))
    said = [f"ended process {process.pid}, left over from a run that was killed" for process in orphans]
    terminal.end(orphans)
    store.release_dead(project)
    return said
