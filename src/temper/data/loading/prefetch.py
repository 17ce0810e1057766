"""Images made one by one, ahead of training: decoded, cropped and sent through a policy by workers, handed out in order.

A worker makes the images of a whole batch. Threads do where only OpenCV works (it lets go of Python's lock); a policy of
albumentations is Python, so there processes do. Only a few batches are on their way at any time, whatever the epoch's
length. What an image looks like depends on the seed and on the number of its draw alone, never on who makes it or when:
batches are the same for any number of workers and ranks, and from wherever an epoch is resumed.

The order is the loader's: a random permutation of the whole epoch, not of blocks. Bytes are read by position, which a local
disk or page cache answers in microseconds; where they lie on a spinning disk or behind a network, copy `encoded/` to a
local one first.
"""

import os
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from multiprocessing import get_context
from typing import final

import numpy as np
import torch
from torch import Tensor

from temper.data.augmentation.batch_transforms import crop_boxes, draw_moves, flips, shift_and_flip
from temper.data.images.decoding import mirror
from temper.data.images.encoded import Encoded
from temper.data.loading.loader import Plan
from temper.data.loading.worker import Maker, Order, begin, make
from temper.data.params import ViewParams
from temper.maths.random import hashes

_SPARE = 2
"""Finished batches that may wait for training, besides one on each worker's bench."""


@final
class Stream:
    """The images of a training split, made ahead of training.

    Args:
        images: Encoded, or uint8 [examples, height, width, channels].
        masks: Columns that move along with the images, [examples, height, width].
        views: Augmentation.
        seed: Of the training.
        workers: Threads or processes.
        ids: Ids of the examples; asked for only where something went wrong.
        pinned: Whether batches go to a GPU, and so are put where it can fetch them itself.
    """

    def __init__(
        self,
        images: Encoded | np.ndarray,
        masks: Mapping[str, np.ndarray],
        views: ViewParams,
        *,
        seed: int,
        workers: int,
        ids: Callable[[], Sequence[str]] = tuple,
        pinned: bool = False,
    ) -> None:
        self.images, self.masks, self.views, self.seed = images, dict(masks), views, seed
        self._workers, self._ids, self._pinned = workers, ids, pinned
        encoded = images if isinstance(images, Encoded) else None
        shape = tuple(images.shape[-3:])
        self._maker = Maker(encoded, shape, views.policy, frozenset(masks))
        self._pool: Executor | None = None

    def ahead(self, plans: Iterable[Plan], epoch: int) -> Iterator[tuple[Plan, dict[str, Tensor]]]:
        """The columns of each plan that move, in the order of the plans.

        Raises:
            ValueError: If an image cannot be read (names it), a policy fails, or a worker was killed.
        """
        waiting: deque[tuple[Plan, Future[dict[str, np.ndarray] | tuple[int, str]]]] = deque()
        coming = iter(plans)
        try:
            while True:
                while len(waiting) < self._workers + _SPARE and (plan := next(coming, None)) is not None:
                    waiting.append((plan, self._submit(self._order(plan))))
                if not waiting:
                    return
                plan, future = waiting.popleft()
                yield plan, self._view(plan, self._result(future), epoch)
        finally:
            for _, future in waiting:
                future.cancel()

    def _order(self, plan: Plan) -> Order:
        rows = plan.rows.numpy()
        if isinstance(self.images, Encoded):
            sizes, pixels = torch.from_numpy(self.images.sizes[rows]).long(), None
        else:
            pixels = self.images[rows]
            sizes = torch.tensor(pixels.shape[1:3]).expand(len(rows), 2)
        boxes = crop_boxes(sizes, plan.draws, self.views, seed=self.seed)
        seeds: list[int] = []
        if self._maker.policy:
            seeds = (hashes(plan.draws, 1, seed=self.seed, stream="policy")[:, 0] & ((1 << 63) - 1)).tolist()
        masks = {name: column[rows] for name, column in self.masks.items()}
        return Order(rows.tolist(), boxes.tolist(), seeds, pixels, masks)

    def _submit(self, order: Order) -> "Future[dict[str, np.ndarray] | tuple[int, str]]":
        if self._pool is None:
            if self._maker.policy:
                # Spawned, not forked: a fork would copy threads' locks along.
                self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"), begin, (self._maker,))
            else:
                self._pool = ThreadPoolExecutor(self._workers, "stream")
            weakref.finalize(self, self._pool.shutdown, wait=True, cancel_futures=True)
        return self._pool.submit(make if self._maker.policy else self._maker.make, order)

    def _result(self, future: "Future[dict[str, np.ndarray] | tuple[int, str]]") -> dict[str, Tensor]:
        try:
            made = future.result()
        except BrokenProcessPool as error:
            raise ValueError(
                "a worker process of views.policy was killed, most likely for lack of memory; set views.workers to 1"
            ) from error
        if isinstance(made, tuple):
            number, reason = made
            ids = self._ids()
            name = repr(ids[number]) if number < len(ids) else f"number {number}"
            raise ValueError(
                f"the training image {name} cannot be read any more: {reason}. prepare could read it, so its files changed "
                "since, or the disk fails; delete artifacts/prepare and run `make pipeline`"
            )
        tensors = {name: torch.from_numpy(value) for name, value in made.items()}
        return {name: value.pin_memory() for name, value in tensors.items()} if self._pinned else tensors

    def _view(self, plan: Plan, columns: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """The views of whole batches, as in memory."""
        if self.views.crop_px:
            only_shift = replace(self.views, flip=False)
            moves = draw_moves(plan.rows, plan.draws, only_shift, seed=self.seed, epoch=epoch)
            columns = shift_and_flip(columns, torch.arange(len(plan.rows)), moves, only_shift)
        if self.views.flip:
            flipped = flips(plan.rows, seed=self.seed, epoch=epoch).nonzero()[:, 0].tolist()
            for value in columns.values():
                mirror(value.numpy(), flipped)
        return columns


def count_workers(asked: int, num_ranks: int) -> int:
    """How many workers a rank takes: as asked, or its share of the cores, at least one."""
    return asked or max(1, len(os.sched_getaffinity(0)) // num_ranks)
