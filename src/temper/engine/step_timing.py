"""Measures the time of a training step: runs a few steps of the training loop and discards their results."""

import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import nn

from temper.engine.checkpoints import Checkpoints
from temper.engine.distributed.ranks import Ranks
from temper.engine.fit import _Fit
from temper.engine.interface import Loader
from temper.engine.metrics_log import Journal
from temper.engine.params import FitParams
from temper.engine.precision import Mode
from temper.engine.unfreezing import Unfreezing
from temper.problem import Batch, Objective

WARM_UP = 2
"""Number of steps before the timing starts. In these steps kernels are chosen, memory is allocated, and
workers start to decode ahead."""
LONGEST_S = 4.0
"""Approximate limit on the total time of the timed steps, in seconds."""
_ENOUGH, _ENOUGH_S = 20, 3.0
"""The timing of steps ends after at least this many steps that took at least this many seconds together; the
timing of calls ends after at most this many."""


def time_steps(
    network: nn.Module,
    objective: Objective,
    loader: Loader,
    params: FitParams,
    *,
    ranks: Ranks,
    unfreezing: Unfreezing | None = None,
    longest_s: float = LONGEST_S,
) -> tuple[float, Mode]:
    """Return the seconds per step, including batches and views, and the mode in which the steps ran.

    All layers are trained that are trained in any epoch.

    Args:
        network: Network on the ranks' device; it is trained a little.
        objective: What the network is trained for.
        loader: Loader of one rank's batches.
        params: Parameters of the fit.
        ranks: This process as the only rank.
        unfreezing: Which layers are trained in which epoch; None trains all of them.
        longest_s: No further step is timed after this many seconds.

    Raises:
        ValueError: If memory runs out.
    """
    with tempfile.TemporaryDirectory(prefix="temper-") as folder:
        fitting = _Fit(
            network,
            objective,
            loader,
            params,
            ranks,
            Checkpoints(Path(folder)),
            Journal(None),
            lambda: False,
            unfreezing,
        )
        try:
            fitting._choose_mode()
            mode = fitting.training.state.mode
            assert mode is not None
            fitting.mode = mode
            fitting.unfreezing.begin(params.epochs - 1)
            fitting._share()
            return _time(fitting._step, _endless(loader), ranks.device, longest_s), mode
        except (torch.OutOfMemoryError, SystemExit) as error:
            raise ValueError(
                f"fit.batch_size = {params.batch_size}: {ranks.device} does not have enough memory for "
                "a whole batch, so its steps cannot be timed; training would split the batch into parts, "
                "which is slower; lower fit.batch_size to time whole batches"
            ) from error


def time_calls(call: Callable[[], object], device: torch.device, *, longest_s: float = 1.0) -> float:
    """Return the mean seconds per call, after one call that is not counted.

    If this first call alone takes longer than `longest_s`, return its time.
    """
    _wait(device)
    started = time.perf_counter()
    call()
    _wait(device)
    first = time.perf_counter() - started
    if first > longest_s:
        return first
    count, started = 0, time.perf_counter()
    while count < _ENOUGH and time.perf_counter() - started < longest_s:
        call()
        _wait(device)
        count += 1
    return (time.perf_counter() - started) / count


def _endless(loader: Loader) -> Iterator[Batch]:
    epoch = 0
    while True:
        yield from loader.batches(epoch)
        epoch += 1


def _time(
    step: Callable[[Batch], None], batches: Iterator[Batch], device: torch.device, longest_s: float
) -> float:
    """Return the mean seconds per step; if one warm-up step alone exceeds the limit, return its time."""
    for _ in range(WARM_UP):
        started = time.perf_counter()
        step(next(batches))
        _wait(device)
        if (seconds := time.perf_counter() - started) > longest_s:
            return seconds
    count, started = 0, time.perf_counter()
    while True:
        step(next(batches))
        count += 1
        _wait(device)
        seconds = time.perf_counter() - started
        if seconds >= longest_s or (count >= _ENOUGH and seconds >= _ENOUGH_S):
            return seconds / count


def _wait(device: torch.device) -> None:
    """Wait until a GPU has finished its work; its calls return earlier."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
