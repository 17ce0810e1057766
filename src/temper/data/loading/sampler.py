"""The choice of examples for each batch: one sampler for any number of ranks, a function of seed and step.

The sampler has no state: it can compute any batch of any epoch. So a training can resume anywhere, and
every rank takes its part (`part`) of the same batch. All ranks together draw the same examples as one rank
would, in the same order.

| method | draws in an epoch | draws of one example |
|---|---|---|
| shuffle | every example, repeated as augment says | exactly its repeats |
| oversample | as many of each stratum as of the largest one (by `strength`) | see below |
| undersample | as many of each stratum as of the smallest one (by `strength`) | see below |
| class-aware | as many as shuffle; every batch has equally many of each of its strata | see below |
| weighted | as many as shuffle, with replacement | on average in proportion to its weight |

With oversample, undersample and class-aware, the numbers of draws of two examples of a stratum differ by at
most one over the whole training. With weighted, every example has weight 1 in the loss.

Each stratum is drawn in laps: all its examples in a random order, then all of them again in another order. So
undersampling takes the next examples in every epoch, instead of leaving out the same ones forever, and
oversampling repeats no example before all of them were drawn. A row with n repeats counts as n examples. An
example with several strata counts as its rarest one, as in `class_balance`.
"""

import math
from collections.abc import Callable, Sequence
from typing import final

import numpy as np
import torch
from jaxtyping import Int64
from torch import Tensor

from temper.data.augmentation import class_balance
from temper.data.loading.params import SamplingParams
from temper.maths.random import hashes, permutation

_DOUBLE_BITS = 53
Strata = Sequence[frozenset[str]]


def part(size: int, rank: int, num_ranks: int) -> slice:
    """Return which examples of a batch belong to a rank. The sizes of the parts differ by at most one.

    Example:
        >>> [part(8, rank, 3) for rank in range(3)]
        [slice(0, 2, None), slice(2, 5, None), slice(5, 8, None)]
    """
    return slice(rank * size // num_ranks, (rank + 1) * size // num_ranks)


@final
class Sampler:
    """The rows of every batch of a training.

    Args:
        repeats: Augment's number of draws of each example in an epoch, [examples]. 0 means never.
        weights: Weight of each example, [examples]. Only `weighted` reads them.
        params: How examples are chosen for batches.
        strata: Returns the strata of each example. Called only by methods that need them.
        batch_size: Number of examples of a global batch. A last incomplete batch of an epoch is left out.
        seed: Seed of the training.

    Raises:
        ValueError: If an epoch has no complete batch, or a batch cannot be divided evenly among its strata.
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
        """Number of batches in an epoch."""
        if not self.num_batches:
            raise ValueError(
                f"fit.batch_size = {batch_size}, but an epoch has {sum(self._quotas)} examples; "
                "make it smaller"
            )
        if params.method == "class-aware":
            self._check_classes()
        if params.method == "weighted":
            self._cumulated = torch.from_numpy(np.cumsum(weights.astype(np.float64)[self._entries.numpy()]))

    def epoch(self, epoch: int) -> Int64[Tensor, "draws"]:
        """Return the rows of an epoch's complete batches, one batch after the other."""
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
        """Return the draws of each stratum in an epoch, or a single total if the method ignores strata."""
        sizes = [len(each) for each in self._members]
        if self.params.method not in ("oversample", "undersample"):
            return sizes
        end = max(sizes) if self.params.method == "oversample" else min(sizes)
        return [int(size + self.params.strength * (end - size) + 0.5) for size in sizes]

    def _walk(self, stratum: int, start: int, count: int, stream: str) -> Tensor:
        """Return `count` draws from a stratum, from its draw number `start` on, in laps over its members."""
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
        # Use as many random bits as float64 holds: float32's 24 bits would favour some of a million examples.
        bits = hashes(draws, 1, seed=self._seed, stream="weighted")[:, 0] >> (64 - _DOUBLE_BITS)
        chances = (bits & ((1 << _DOUBLE_BITS) - 1)).double() * 2.0**-_DOUBLE_BITS
        places = torch.searchsorted(self._cumulated, chances * self._cumulated[-1], right=True)
        return self._entries[places.clamp(max=len(self._entries) - 1)]

    def _class_aware(self, epoch: int) -> Tensor:
        """Return the rows of batches of `classes` strata with equally many examples of each.

        If a batch contains all strata and its size is no multiple of their number, the strata take turns in
        filling the remaining places.
        """
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
        # Shuffle within the batch, because ranks take slices of it and mixup mixes neighbours.
        keys = torch.arange(len(flat)) + first * self.batch_size
        places = torch.argsort(
            hashes(keys, 1, seed=self._seed, stream="place").view(wanted.shape), dim=1, stable=True
        )
        return rows.view(wanted.shape).gather(1, places).flatten()

    def _windows(self, start: int, stop: int, width: int, stream: str) -> Tensor:
        """Return which strata have a turn in the steps from `start` to `stop`, [steps, width].

        Windows of `width` strata move along a circle of all strata, so no stratum occurs twice in a window.
        Each time the windows are back at the start of the circle, the circle is shuffled.
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
        """Return how often each stratum had a turn before a step."""
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
                f"sampling.classes = {classes}, but the training split has {num} strata; "
                f"set it to {num} or less"
            )
        if self.batch_size < (classes or num):
            raise ValueError(
                f"fit.batch_size = {self.batch_size} cannot hold {classes or num} strata; make it larger, "
                f"or set sampling.classes to {self.batch_size} or less"
            )
        if classes and classes < num and self.batch_size % classes:
            raise ValueError(
                f"fit.batch_size = {self.batch_size} cannot hold sampling.classes = {classes} strata evenly; "
                f"set it to a multiple of {classes}"
            )


def rarest(strata: Strata) -> Int64[np.ndarray, "examples"]:
    """Return the number of each example's stratum: its rarest stratum, if it has several.

    Strata are numbered in the order of their names.

    Example:
        >>> rarest([frozenset({"cat"}), frozenset({"cat", "hat"}), frozenset({"cat"})])
        array([0, 1, 0])
    """
    counts = class_balance.count(strata)
    numbers = {name: number for number, name in enumerate(sorted(counts))}
    # Computed once per set of strata: most examples share their set with many others.
    chosen = {each: numbers[min(sorted(each), key=counts.__getitem__)] for each in set(strata)}
    return np.array([chosen[each] for each in strata], np.int64)
