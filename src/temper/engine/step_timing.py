"""How long a step of a training takes: the loop's own steps, a few of them, timed; nothing is kept of what they learn."""

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
from temper.engine.unfreezing import Thawing
from temper.problem import Batch, Objective

WARM_UP = 2
"""Steps before the clock starts: kernels are chosen, memory is fetched, and workers begin to decode ahead."""
LONGEST_S = 4.0
"""Time spent on steps, about."""
_ENOUGH, _ENOUGH_S = 10, 1.0
"""So many steps that took so long together are enough."""


def time_steps(
    network: nn.Module,
    objective: Objective,
    loader: Loader,
    params: FitParams,
    *,
    ranks: Ranks,
    thawing: Thawing | None = None,
    longest_s: float = LONGEST_S,
) -> tuple[float, Mode]:
    """Seconds of a step, batches and views included, with all layers trained that ever are; and the mode it ran in.

    Args:
        network: On the ranks' device; it is trained a little.
        objective: What it is trained for.
        loader: Batches as one rank gets them.
        params: How it is fitted.
        ranks: This process, alone.
        thawing: What of the network is trained when; None for all of it.
        longest_s: After so many seconds no further step is timed.

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
            thawing,
        )
        try:
            fitting._choose_mode()
            mode = fitting.training.state.mode
            assert mode is not None
            fitting.mode = mode
            fitting.thawing.begin(params.epochs - 1)
            fitting._share()
            return _time(fitting._step, _endless(loader), ranks.device, longest_s), mode
        except (torch.OutOfMemoryError, SystemExit) as error:
            raise ValueError(
                f"{ranks.device} has no memory for a whole batch of {params.batch_size}; training would go through it in parts, slower"
            ) from error


def time_calls(call: Callable[[], object], device: torch.device, *, longest_s: float = 1.0) -> float:
    """Seconds of a call, after one that is not counted."""
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
    """Mean seconds of a step; of the first one where it alone takes longer than there is."""
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
    """Let a GPU come to the end of what it was asked: it answers before it is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
