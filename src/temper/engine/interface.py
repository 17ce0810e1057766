"""What a training takes its batches from, and what it comes to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from temper.engine.metrics_log import Entry
from temper.engine.precision import Mode
from temper.problem import Batch


class Loader(Protocol):
    """Where batches come from."""

    num_batches: int
    """Batches of an epoch."""

    def batches(self, epoch: int, start: int = 0) -> Iterator[Batch]:
        """This rank's parts of an epoch's batches, from number `start` on."""

    def ids(self, epoch: int, number: int) -> Sequence[str]:
        """Ids of the examples of a whole batch, over all ranks."""


@dataclass(frozen=True)
class FitResult:
    """What a training came to."""

    scores: dict[str, float]
    """Of the best network, on the validation split."""
    best_epoch: int
    num_steps: int
    mode: Mode
    num_skipped: int
    """Steps that were skipped because their numbers were not finite."""
    accumulation: int
    """In how many parts each batch was gone through on a rank, at the end; 1 unless memory ran out."""
    clipped_share: float
    """Share of the steps whose gradients were shortened."""
    entries: list[Entry] = field(compare=False)
    """The journal, on the first rank; its times differ from run to run."""
