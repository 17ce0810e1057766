"""Images made one by one, ahead of training: workers decode, crop and augment them, and they arrive in order.

A worker makes the images of a whole batch. Workers are threads if only OpenCV works, because it releases
Python's lock. A policy of albumentations runs in Python, so its workers are processes. Only a few batches
are in progress at any time, whatever the epoch's length. An image depends only on the seed and on the
number of its draw, not on the worker or the time. So batches are the same for any number of workers and
ranks, and for a resumed epoch.

The order is the loader's: a random permutation of the whole epoch, not of blocks. Bytes are read by
position, which a local disk or the page cache answers in microseconds. If they are on a spinning disk or a
network drive, copy `encoded/` to a local disk first.
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

from temper.data.augmentation.batch_transforms import draw_moves, flips, shift_and_flip
from temper.data.augmentation.parts import Pool, draw_parts
from temper.data.images.decoding import mirror
from temper.data.images.encoded import Encoded
from temper.data.loading.loader import Plan
from temper.data.loading.params import ViewParams
from temper.data.loading.worker import Maker, Order, begin, make
from temper.fields import PRESENT, VALID, Field, by_layout
from temper.make_command import make_command
from temper.maths.geometry import mirror_of, move, shift_of
from temper.maths.random import hashes

_SPARE = 2
"""Number of batches that may wait for the training, in addition to one per worker."""


@final
class Stream:
    """The images of a training split, made ahead of training.

    Args:
        picture: Name of the images' column.
        images: Encoded images, or pixels: uint8 [examples, height, width, channels].
        columns: Columns that move with the images, [examples, ...].
        truth: What these columns contain.
        views: Augmentation.
        seed: Seed of the training.
        workers: Number of threads or processes.
        repeats: How often each example is drawn in an epoch, for mosaics; None if there are none.
        ids: Returns the ids of the examples. Called only for error messages.
        pinned: Whether to put batches into pinned memory, from which a GPU can copy them directly.
    """

    def __init__(
        self,
        picture: str,
        images: Encoded | np.ndarray,
        columns: Mapping[str, np.ndarray],
        truth: Mapping[str, Field],
        views: ViewParams,
        *,
        seed: int,
        workers: int,
        repeats: np.ndarray | None = None,
        ids: Callable[[], Sequence[str]] = tuple,
        pinned: bool = False,
    ) -> None:
        self.images, self.columns, self.views, self.seed = images, dict(columns), views, seed
        self._workers, self._ids, self._pinned = workers, ids, pinned
        self._picture = picture
        encoded = images if isinstance(images, Encoded) else None
        shape = tuple(images.shape[-3:])
        self._truth = dict(truth)
        most_parts = 4 if views.mosaic else 1
        self._maker = Maker(encoded, shape, views.policy, self._truth, picture, most_parts)
        self._shares = None if repeats is None else torch.from_numpy(repeats.astype(np.float64).cumsum())
        self._pool: Executor | None = None

    def ahead(self, plans: Iterable[Plan], epoch: int) -> Iterator[tuple[Plan, dict[str, Tensor]]]:
        """Yield each plan with its images and what moves with them, in the order of the plans.

        Raises:
            ValueError: If an image cannot be read (the message names it), a policy fails, or a worker was
                killed.
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
        has_boxes = bool(by_layout(self._truth, "boxes") & self.columns.keys())
        # Made here: if the stream kept it, it would refer to itself, and its threads would outlive it.
        pool = Pool(self._sizes, self._objects if has_boxes else None, self._shares)
        parts = draw_parts(plan.rows, plan.draws, self._maker.shape[:2], pool, self.views, seed=self.seed)
        rows = parts.rows.numpy()
        seeds: list[int] = []
        if self._maker.policy:
            seeds = (hashes(plan.draws, 1, seed=self.seed, stream="policy")[:, 0] & ((1 << 63) - 1)).tolist()
        return Order(
            len(plan.rows),
            parts.owners.tolist(),
            rows.tolist(),
            parts.boxes.tolist(),
            parts.places.tolist(),
            seeds,
            None if isinstance(self.images, Encoded) else self.images[rows],
            {name: column[rows] for name, column in self.columns.items()},
        )

    def _sizes(self, rows: Tensor) -> Tensor:
        """Return heights and widths of the images of some examples."""
        if isinstance(self.images, Encoded):
            return torch.from_numpy(self.images.sizes[rows.numpy()]).long()
        return torch.tensor(self.images.shape[1:3]).expand(len(rows), 2)

    def _objects(self, rows: Tensor) -> Tensor:
        """Return the boxes of the objects of some examples; those that do not count are 0."""
        numbers = rows.numpy()
        found = [
            self.columns[name][numbers] * (self.columns[f"{name}{VALID}"][numbers] == PRESENT)[..., None]
            for name in sorted(by_layout(self._truth, "boxes") & self.columns.keys())
        ]
        return torch.from_numpy(np.concatenate(found, axis=1))

    def _submit(self, order: Order) -> "Future[dict[str, np.ndarray] | tuple[int, str]]":
        if self._pool is None:
            if self._maker.policy:
                # Spawned, not forked: a fork would also copy the locks that threads hold.
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
                "a worker process of views.policy was killed, most likely because memory ran out; "
                "set views.workers to 1"
            ) from error
        if isinstance(made, tuple):
            number, reason = made
            ids = self._ids()
            name = repr(ids[number]) if number < len(ids) else f"number {number}"
            raise ValueError(
                f"the training image {name} cannot be read any more: {reason}. prepare could read it, so its "
                "file has changed or the disk is failing; delete artifacts/prepare and run "
                f"`{make_command('pipeline')}`"
            )
        tensors = {name: torch.from_numpy(value) for name, value in made.items()}
        return {name: value.pin_memory() for name, value in tensors.items()} if self._pinned else tensors

    def _view(self, plan: Plan, columns: dict[str, Tensor], epoch: int) -> dict[str, Tensor]:
        """Shift and flip a whole batch, as `TrainLoader` does with columns in memory."""
        if self.views.crop_px:
            only_shift = replace(self.views, flip=False)
            moves = draw_moves(plan.rows, plan.draws, only_shift, seed=self.seed, epoch=epoch)
            assert moves is not None
            maps = {name: columns[name] for name in self._maps & columns.keys()}
            columns |= shift_and_flip(maps, torch.arange(len(plan.rows)), moves, only_shift)
            shift = shift_of(moves, self.views.crop_px, *columns[self._picture].shape[1:3])
            columns = move(columns, self._truth, *shift)
        if self.views.flip:
            flipped = flips(plan.rows, seed=self.seed, epoch=epoch)
            for name in self._maps & columns.keys():
                mirror(columns[name].numpy(), flipped.nonzero()[:, 0].tolist())
            columns = move(columns, self._truth, *mirror_of(flipped))
        return columns

    @property
    def _maps(self) -> frozenset[str]:
        return frozenset({self._picture}) | by_layout(self._truth, "map")


def count_workers(asked: int, num_ranks: int) -> int:
    """Return the number of workers of a rank: `asked`, or if that is 0 its share of the cores, at least 1."""
    return asked or max(1, len(os.sched_getaffinity(0)) // num_ranks)
