"""Interface of the training loop: where its batches come from, and what it returns."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from temper.engine.metrics_log import Entry
from temper.engine.precision import Mode
from temper.problem import Batch


class Loader(Protocol):
    """Source of batches."""

    num_batches: int
    """Number of batches per epoch."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """Yield this rank's parts of an epoch's batches, from batch number `start` on."""

    def ids(self, epoch: int, number: int) -> Sequence[str]:
        """Return the ids of the examples of a whole batch, over all ranks."""


@dataclass(frozen=True)
class FitResult:
    """The result of a training."""

    scores: dict[str, float]
    """Scores of the best network on the validation split."""
    best_epoch: int
    num_steps: int
    mode: Mode
    num_skipped: int
    """Number of steps that were skipped because their loss or gradient was not finite."""
    accumulation: int
    """Number of parts into which each rank splits a batch, at the end; 1 unless memory ran out."""
    clipped_share: float
    """Share of the steps whose gradients were clipped."""
    entries: list[Entry] = field(compare=False)
    """Entries of the journal, on the first rank. Their times differ from run to run."""
