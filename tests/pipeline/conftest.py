"""Set-up for the tests of whole pipelines."""

import os

import pytest

from temper.artifacts import write_atomically


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Variables with which all toy projects share one DVC cache, so that equal stages run once.

    Use it where a project is only needed, not where its pipeline is tested.
    """
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder = folder / "dvc"
    folder.mkdir(exist_ok=True)
    # Every worker writes the same file, while the projects of others may be reading it.
    write_atomically(folder / "config", f"[cache]\n    dir = {folder / 'cache'}\n")
    return {"DVC_GLOBAL_CONFIG_DIR": str(folder)}
