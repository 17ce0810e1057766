"""Dynamic batching: whatever waits for the same model, in pictures of the same size, is answered at once.

Nothing waits for company: while a batch is being answered others arrive, and they are the next one. A core answers a batch.
"""

import asyncio
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from temper.serving.models import Model


class Full(Exception):
    """Too many pictures wait."""


@dataclass(eq=False)
class _Work:
    model: Model
    images: np.ndarray
    done: "asyncio.Future[dict[str, np.ndarray]]" = field(repr=False)


class Batcher:
    """Answers pictures, several requests at a time.

    Args:
        workers: Batches that are answered side by side.
        max_batch: Pictures of a batch; a request with more is answered by itself.
        max_queue: Pictures that may wait.
    """

    def __init__(self, *, workers: int, max_batch: int, max_queue: int) -> None:
        self._max_batch, self._max_queue = max_batch, max_queue
        self._pool = ThreadPoolExecutor(workers, "answer")
        self._waiting: deque[_Work] = deque()
        self._count = 0
        self._free = workers
        self.batches = 0
        """Answered so far."""

    @property
    def waiting(self) -> int:
        """Pictures that wait."""
        return self._count

    async def answer(self, model: Model, images: np.ndarray) -> dict[str, np.ndarray]:
        """Answers of one model to uint8 pictures [pictures, height, width, channels].

        Raises:
            Full: If too many wait already.
        """
        if self._count + len(images) > self._max_queue and self._count:
            raise Full
        work = _Work(model, images, asyncio.get_running_loop().create_future())
        self._waiting.append(work)
        self._count += len(images)
        self._begin()
        return await work.done

    def close(self) -> None:
        """Answer no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        while self._free and (group := self._take()):
            self._free -= 1
            images = group[0].images if len(group) == 1 else np.concatenate([work.images for work in group])
            running = asyncio.get_running_loop().run_in_executor(self._pool, group[0].model.answer, images)
            running.add_done_callback(lambda found, group=group: self._end(group, found))  # type: ignore[misc]

    def _take(self) -> list[_Work]:
        """The first that waits, and all that can be answered with it; those that nobody waits for any more are dropped."""
        group: list[_Work] = []
        rest: deque[_Work] = deque()
        size = 0
        while self._waiting:
            work = self._waiting.popleft()
            if work.done.done():
                self._count -= len(work.images)
                continue
            fits = not group or (
                work.model is group[0].model
                and work.images.shape[1:] == group[0].images.shape[1:]
                and size + len(work.images) <= self._max_batch
            )
            if not fits:
                rest.append(work)
                continue
            group.append(work)
            size += len(work.images)
            self._count -= len(work.images)
            if size >= self._max_batch:
                break
        self._waiting.extendleft(reversed(rest))
        return group

    def _end(self, group: list[_Work], found: "asyncio.Future[dict[str, np.ndarray]]") -> None:
        self._free += 1
        self.batches += 1
        error, start = found.exception(), 0
        for work in group:
            end = start + len(work.images)
            if not work.done.done():
                if error is not None:
                    work.done.set_exception(error)
                else:
                    work.done.set_result({name: value[start:end] for name, value in found.result().items()})
            start = end
        self._begin()
