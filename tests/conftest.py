"""Set-up for all tests: shapes are checked, threads are limited, and no telemetry leaves the machine."""

import os
import signal

# `nohup` and a shell's `&` start the tests with these signals ignored, and child processes inherit that.
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, default)
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # Each worker and its children get one core: otherwise trainings would wait for each other's threads. Two
    # workers share a core.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
os.environ.update(
    NO_ALBUMENTATIONS_UPDATE="1", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1", MPLBACKEND="Agg"
)
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# As in every process of a project (`temper.ops.project`): MLflow's watching is not safe with threads.
os.environ["MLFLOW_RECORD_ENV_VARS_IN_MODEL_LOGGING"] = "false"

from jaxtyping import install_import_hook

install_import_hook(
    ["temper.maths", "temper.data.augmentation.batch_transforms", "temper.stress"], "beartype.beartype"
)

import pytest
import torch

from temper.make_command import PROJECT

# Toy tensors are too small for several threads, and waiting threads are slow on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _no_project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the project of a command that an earlier test ran in this process; messages name it."""
    monkeypatch.delenv(PROJECT, raising=False)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run the slow files first, so that no worker is left with one of them at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)
