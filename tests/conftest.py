"""Set-up for all tests: shapes are checked, threads are limited, and no telemetry leaves the machine."""

import os
import signal
from collections import Counter

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


LONGEST = "test_story.py"
"""File with the test that takes longest."""
_FEW = 2
"""Largest number of tests of a file behind which xdist queues another file at once."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the files into an order in which no worker is left with a slow file at the end.

    xdist gives a worker its next file as soon as two tests of the present one are left. So slow files with
    few tests come after those with many, and behind the longest test comes a file that is not slow.
    """
    counts = Counter(item.path for item in items)
    slow = dict.fromkeys(item.path for item in items if item.get_closest_marker("slow"))
    many = sorted((path for path in slow if counts[path] > _FEW), key=lambda path: (-counts[path], path))
    few = sorted(path for path in slow if counts[path] <= _FEW and path.name != LONGEST)
    quick = sorted(path for path in counts if path not in slow)
    first = many[: int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")) - 1]
    longest = [path for path in slow if path.name == LONGEST]
    order = [*longest, *first, *quick[:1], *many[len(first) :], *few, *quick[1:]]
    place = {path: number for number, path in enumerate(order)}
    items.sort(key=lambda item: place[item.path])
