"""Set-up for the tests of whole pipelines."""

import os

import pytest


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
    (folder / "config").write_text(f"[cache]\n    dir = {folder / 'cache'}\n", encoding="utf-8")
    return {"DVC_GLOBAL_CONFIG_DIR": str(folder)}
