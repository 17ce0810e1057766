"""What every test stands on: shapes are checked, random states are fixed, nothing leaves the machine."""

import os
import signal

# Whoever started the tests may have them ignore these (`nohup`, a shell's `&`), and with them all that they start.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)
if worker := os.environ.get("PYTEST_XDIST_WORKER"):
    # A core for each worker and all it starts: trainings beside each other would wait for each other's threads.
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})
os.environ.update(
    NO_ALBUMENTATIONS_UPDATE="1", MLFLOW_DISABLE_TELEMETRY="true", DO_NOT_TRACK="1", MPLBACKEND="Agg"
)
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

from jaxtyping import install_import_hook

install_import_hook(
    ["temper.maths", "temper.data.augmentation.batch_transforms", "temper.stress"], "beartype.beartype"
)

import torch

# Toy tensors are too small to share, and threads that wait for each other suffer from every busy neighbour.
torch.set_num_threads(1)
