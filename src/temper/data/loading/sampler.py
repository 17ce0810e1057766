"""Which examples make up each batch: one sampler for one rank or many, a pure function of the seed and the step.

It has no state: any batch of any epoch can be asked for, so a training resumes anywhere, and every rank cuts its part (`part`)
out of the same batch. Together the ranks draw what one would, in its order.

| method | an epoch draws | each example |
|---|---|---|
| shuffle | every example, as often as augment's repeats say | exactly so often |
| oversample, undersample | of each stratum as many as of the largest, the smallest (by `strength`) | as often as any other of its stratum, within one, over the whole training |
| class-aware | as many as shuffle; every batch holds its strata evenly | the same |
| weighted | as many as shuffle, with replacement | in proportion to its weight, on average; its loss then counts as 1 |

Strata are walked through in laps: all examples of one in a random order, then all again in another. So undersampling takes the next
examples in every epoch instead of losing the same ones for ever, and oversampling repeats none before all were drawn.
Rows with repeats count as so many examples; an example with several strata follows its rarest one, as in `balance`.
"""

import math
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from temper.data.augmentation import class_balance
from temper.data.params import SamplingParams
from temper.maths.random import hashes, permutation

_DOUBLE_BITS = 53
Strata = Sequence[frozenset[str]]


def part(size: int, rank: int, num_ranks: int) -> slice:
    """Which examples of a batch are a rank's: as many as any other's, or one more.

    Example:
        >>> [part(8, rank, 3) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """
    return slice(rank * size // num_ranks, (rank + 1) * size // num_ranks)


@final
class Sampler:
    """The rows of every batch of a training.

    Args:
        repeats: How often augment has each example drawn in an epoch, [examples]; one with 0 is never drawn.
        weights: How much each example counts, [examples]; read by `weighted` only.
        params: How batches are made up.
        strata: Of each example; asked for only by methods that read them.
        batch_size: Examples of a global batch; what does not fill a last one is left out of an epoch.
        seed: Of the training.

    Raises:
        ValueError: If an epoch has no whole batch, or a batch cannot hold its strata evenly.
    """

    def __init__(
        self,
        repeats: np.ndarray,
        weights: np.ndarray,
        params: SamplingParams,
        *,
        strata: Callable[[], Strata],
        batch_size: int,
        seed: int,
    ) -> None:
        self.params, self.batch_size, self._seed = params, batch_size, seed
        self._entries = torch.from_numpy(np.repeat(np.arange(len(repeats)), repeats))
        self._members = [self._entries]
        if params.method in ("oversample", "undersample", "class-aware"):
            group = torch.from_numpy(rarest(strata()))[self._entries]
            sizes = torch.bincount(group)
            members = self._entries[torch.argsort(group, stable=True)].split(sizes.tolist())
            self._members = [each for each in members if len(each)]
        self._quotas = self._quotas_of_epoch()
        self.num_batches = sum(self._quotas) // batch_size
        """Of an epoch."""
        if not self.num_batches:
            raise ValueError(
                f"fit.batch_size is {batch_size}, but an epoch has {sum(self._quotas)} examples; make it smaller"
            )
        if params.method == "class-aware":
            self._check_classes()
        if params.method == "weighted":
            self._cumulated = torch.from_numpy(np.cumsum(weights.astype(np.float64)[self._entries.numpy()]))

    def epoch(self, epoch: int) -> Int64[Tensor, "draws"]:
        """The rows of an epoch's whole batches, one batch after the other."""
        if self.params.method == "weighted":
            return self._weighted(epoch)
        if self.params.method == "class-aware":
            return self._class_aware(epoch)
        if self.params.method == "shuffle":
            rows = self._walk(0, epoch * len(self._entries), len(self._entries), "order")
        else:
            walks = [
                self._walk(number, epoch * quota, quota, f"stratum {number}")
                for number, quota in enumerate(self._quotas)
            ]
            rows = torch.cat(walks)[permutation(sum(self._quotas), seed=self._seed, stream=f"mix {epoch}")]
        return rows[: self.num_batches * self.batch_size]

    def _quotas_of_epoch(self) -> list[int]:
        """How many an epoch draws of each stratum; of all together where strata do not matter."""
        sizes = [len(each) for each in self._members]
        if self.params.method not in ("oversample", "undersample"):
            return sizes
        end = max(sizes) if self.params.method == "oversample" else min(sizes)
        return [int(size + self.params.strength * (end - size) + 0.5) for size in sizes]

    def _walk(self, stratum: int, start: int, count: int, stream: str) -> Tensor:
        """`count` draws from a stratum, from its draw number `start` on, in laps over all its members."""
        members = self._members[stratum]
        first, last = start // len(members), (start + count - 1) // len(members)
        laps = [
            members[permutation(len(members), seed=self._seed, stream=f"{stream} {lap}")]
            for lap in range(first, last + 1)
        ]
        return torch.cat(laps)[start - first * len(members) :][:count] if laps else members[:0]

    def _weighted(self, epoch: int) -> Tensor:
        count = self.num_batches * self.batch_size
        draws = torch.arange(epoch * count, (epoch + 1) * count)
        # As many random bits as float64 holds: float32's 24 would favour some of a million examples.
        bits = hashes(draws, 1, seed=self._seed, stream="weighted")[:, 0] >> (64 - _DOUBLE_BITS)
        chances = (bits & ((1 << _DOUBLE_BITS) - 1)).double() * 2.0**-_DOUBLE_BITS
        places = torch.searchsorted(self._cumulated, chances * self._cumulated[-1], right=True)
        return self._entries[places.clamp(max=len(self._entries) - 1)]

    def _class_aware(self, epoch: int) -> Tensor:
        """Batches of `classes` strata with as many of each; what is over, where all strata are in, goes round among them."""
        first, num_strata = epoch * self.num_batches, len(self._members)
        width = self.params.classes or num_strata
        each, over = divmod(self.batch_size, width)
        steps = (first, first + self.num_batches)
        wanted = torch.cat(
            [self._windows(*steps, width, "classes").repeat(1, each), self._windows(*steps, over, "over")],
            dim=1,
        )
        starts = each * self._counts(first, width, "classes") + self._counts(first, over, "over")
        flat = wanted.flatten()
        counts = torch.bincount(flat, minlength=num_strata)
        walks = [
            self._walk(number, start, count, f"stratum {number}")
            for number, (start, count) in enumerate(zip(starts.tolist(), counts.tolist(), strict=True))
        ]
        rows = torch.empty_like(flat)
        rows[torch.argsort(flat, stable=True)] = torch.cat(walks)
        # Mixed within the batch: ranks cut slices, and mixup pairs neighbours.
        keys = torch.arange(len(flat)) + first * self.batch_size
        places = torch.argsort(
            hashes(keys, 1, seed=self._seed, stream="place").view(wanted.shape), dim=1, stable=True
        )
        return rows.view(wanted.shape).gather(1, places).flatten()

    def _windows(self, start: int, stop: int, width: int, stream: str) -> Tensor:
        """Which strata have a turn in each of some steps, [steps, width].

        Windows of `width` go round a circle of the strata, so that none is twice in one; each time they have closed, the
        circle is shuffled.
        """
        num = len(self._members)
        if not width:
            return torch.empty((stop - start, 0), dtype=torch.int64)
        closed = num // math.gcd(num, width)
        steps = torch.arange(start, stop)
        lap, first = steps // closed, start // closed
        keys = torch.arange(first * num, ((stop - 1) // closed + 1) * num)
        circles = torch.argsort(
            hashes(keys, 1, seed=self._seed, stream=stream).view(-1, num), dim=1, stable=True
        )
        turns = ((steps % closed)[:, None] * width + torch.arange(width)) % num
        return circles[lap - first].gather(1, turns)

    def _counts(self, step: int, width: int, stream: str) -> Tensor:
        """How often each stratum had a turn before a step."""
        num = len(self._members)
        if not width:
            return torch.zeros(num, dtype=torch.int64)
        closed = num // math.gcd(num, width)
        laps = step // closed
        counts = torch.full((num,), laps * closed * width // num)
        if step % closed:
            counts += torch.bincount(
                self._windows(laps * closed, step, width, stream).flatten(), minlength=num
            )
        return counts

    def _check_classes(self) -> None:
        num, classes = len(self._members), self.params.classes
        if classes > num:
            raise ValueError(
                f"sampling.classes = {classes}, but the training split has {num} strata; name {num} or fewer"
            )
        if self.batch_size < (classes or num):
            raise ValueError(
                f"fit.batch_size = {self.batch_size} cannot hold {classes or num} strata; make it larger, or name fewer in "
                "sampling.classes"
            )
        if classes and classes < num and self.batch_size % classes:
            raise ValueError(
                f"fit.batch_size = {self.batch_size} cannot hold {classes} strata evenly (sampling.classes); make it a multiple"
            )


def rarest(strata: Strata) -> Int64[np.ndarray, "examples"]:
    """The number of each example's stratum, in the order of their names; of several the one with the fewest examples.

    Example:
        >>> rarest([frozenset({"cat"}), frozenset({"cat", "hat"}), frozenset({"cat"})])
        array([0, 1, 0])
    """
    counts = class_balance.count(strata)
    numbers = {name: number for number, name in enumerate(sorted(counts))}
    # Most examples share their strata with many others.
    chosen = {each: numbers[min(sorted(each), key=counts.__getitem__)] for each in set(strata)}
    return np.array([chosen[each] for each in strata], np.int64)
