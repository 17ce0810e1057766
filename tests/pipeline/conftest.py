"""Set-up for the tests of whole pipelines: what all workers share, and is made once."""

import fcntl
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from temper.artifacts import write_atomically
from temper.ops.prefect import server
from temper.ops.project import Project
from tests.project import OUTPUT, make_project, tell


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.with_name("shared") if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def shared_cache(shared: Path) -> dict[str, str]:
    """Variables with which all toy projects share one DVC cache, so that equal stages run once.

    Use it where a project is only needed, not where its pipeline is tested.
    """
    folder = shared / "dvc"
    folder.mkdir(parents=True, exist_ok=True)
    # Every worker writes the same file, while the projects of others may be reading it.
    write_atomically(folder / "config", f"[cache]\n    dir = {folder / 'cache'}\n")
    return {"DVC_GLOBAL_CONFIG_DIR": str(folder)}


@pytest.fixture(scope="session")
def prefect_server(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Variables with which runs use a server that is there already, as those of `make schedule` do.

    The first worker that needs one lets Prefect make the database, and the others begin with a copy.
    """
    project = Project.at(make_project(tmp_path_factory.mktemp("prefect"), "multiclass"))
    made, mine = shared / "prefect" / "prefect.db", project.prefect_home / "prefect.db"
    made.parent.mkdir(parents=True, exist_ok=True)
    with (made.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if made.exists():
            mine.parent.mkdir(parents=True)
            shutil.copy(made, mine)
        running = server.Server(project)
        running.wait()
        if not made.exists():
            with closing(sqlite3.connect(mine)) as origin, closing(sqlite3.connect(made)) as copy:
                origin.backup(copy)
    yield {server.URL: running.url}
    running.stop()


@pytest.fixture(scope="session")
def finished(shared: Path) -> Path:
    """A multiclass project with one completed run. No test changes it; see `project` for a copy.

    The first worker that needs it runs the pipeline, and the others wait.
    """
    folder = shared / "finished" / "project"
    folder.parent.mkdir(parents=True, exist_ok=True)
    output = folder.with_name(OUTPUT)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not output.exists():
            assert not folder.exists(), "the pipeline failed in another worker, whose test shows the reason"
            write_atomically(output, tell(make_project(folder, "multiclass"), "pipeline"))
    return folder
