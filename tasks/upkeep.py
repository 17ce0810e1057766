"""Before a run: is everything in place; and after runs that died: clear away what they left.

All of it is quick and imports neither Prefect nor MLflow; what a user can mend is a ValueError of one paragraph.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from tasks import store, terminal
from tasks.project import Project
from temper import artifacts
from temper.params import Params
from temper.params import load as load_params
from temper.stages.dvc import dvc_yaml

MIN_FREE_BYTES = 1 << 30
"""Below this a run does not start: it would stop half-way, with the disk full for everyone else too."""


def preflight(project: Project) -> tuple[Params, list[str]]:
    """Check a project before anything is started, and bring its dvc.yaml up to date.

    Returns:
        Its parameters, and a line for everything that was changed on the way.

    Raises:
        ValueError: If something must be mended first; names it, and the way out.
    """
    params = load_params(project.folder)
    check_space(project)
    check_writable(project)
    said = []
    if store.prepare(project):
        said.append(f"{project.folder} lies in no DVC repository: made it one (.dvc)")
    text, path = dvc_yaml(project.folder, params), project.folder / store.FILE
    known = path.is_file()
    if not known or path.read_text(encoding="utf-8") != text:
        artifacts.write_atomically(path, text)
        said.append(f"wrote {store.FILE}, which did not match the table of stages" if known else f"made {store.FILE}")
    return params, said


def check_space(project: Project, least_bytes: int = MIN_FREE_BYTES) -> None:
    """Raise ValueError if the project's disk is nearly full."""
    free = shutil.disk_usage(project.folder).free
    if free < least_bytes:
        raise ValueError(
            f"only {free / 2**30:.2f} GiB are free on the disk of {project.folder}, a run needs {least_bytes / 2**30:.1f}; "
            "free some (`make clean` removes this project's results, `dvc gc -w` old versions of data) and run it again"
        )


def check_writable(project: Project) -> None:
    """Raise ValueError if a folder that a run writes to cannot be written to."""
    for folder in (project.folder, project.artifacts, project.hidden, project.reports, project.runs):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            tempfile.TemporaryFile(dir=folder).close()
        except OSError as error:
            raise ValueError(f"cannot write to {folder}: {artifacts.explain(error)}") from error


@contextmanager
def alone(project: Project) -> Iterator[None]:
    """Hold the project: two runs in one folder would tear each other's files.

    The lock is the kernel's, so it ends with the process that holds it, however that ends.

    Raises:
        ValueError: If another run holds it.
    """
    project.hidden.mkdir(parents=True, exist_ok=True)
    with (project.hidden / "lock").open("a+", encoding="utf-8") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            raise ValueError(
                f"another run is working on {project.folder} (process {stream.read() or 'unknown'}); "
                "wait for it or end it, then run the same command again"
            ) from None
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
    orphans = project.processes()
    said = [f"ended process {process.pid}, left over from a run that was killed" for process in orphans]
    terminal.end(orphans)
    return said
