"""Dynamic batching: waiting requests for the same model, with inputs of the same size, are answered together.

There is no batching delay: requests that arrive while a batch runs form the next batch. A batch that takes
less time than handing it to a thread and getting the interpreter back is answered in place. Longer batches
are answered in threads, one per core. The size of a batch is limited so that it does not take long: a slow
network does not become faster in large batches, and every request of a batch waits for the whole batch.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from temper.inputs.facts import count_examples
from temper.serving.model_follower import Model

_AT_ONCE_S = 0.002
_LONG_S = 0.02


class Full(Exception):
    """Too many examples are waiting."""


@dataclass(eq=False)
class _Work:
    model: Model
    given: Mapping[str, np.ndarray]
    """Inputs by name, [examples, ...]."""
    done: "asyncio.Future[dict[str, np.ndarray]]" = field(repr=False)

    @property
    def size(self) -> int:
        """Number of examples."""
        return count_examples(self.given)

    @property
    def shapes(self) -> list[tuple[int, ...]]:
        """Shapes of an example's inputs."""
        return [column.shape[1:] for column in self.given.values()]


class Batcher:
    """Answers examples, several requests at a time.

    Args:
        cores: Number of long batches that are answered in parallel.
        max_batch: Maximum number of examples in a batch; a larger request is a batch by itself.
        max_queue: Maximum number of waiting examples.
        tell: Called after each batch.
    """

    def __init__(
        self, *, cores: int, max_batch: int, max_queue: int, tell: Callable[[], object] = lambda: None
    ) -> None:
        self._tell = tell
        self._max_batch, self._max_queue = max_batch, max_queue
        self._pool = ThreadPoolExecutor(cores, "answer")
        self._waiting: deque[_Work] = deque()
        self._count = 0
        self._free = cores
        self._called = False

    @property
    def waiting(self) -> int:
        """Number of waiting examples."""
        return self._count

    async def answer(self, model: Model, given: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the answers of one model to its inputs by name, [examples, ...].

        Raises:
            Full: If too many examples are waiting already.
        """
        work = _Work(model, given, asyncio.get_running_loop().create_future())
        if self._count + work.size > self._max_queue and self._count:
            raise Full
        self._waiting.append(work)
        self._count += work.size
        if not self._called:
            # Runs after the event loop has read all requests that arrived together with this one.
            self._called = True
            asyncio.get_running_loop().call_soon(self._begin)
        return await work.done

    def close(self) -> None:
        """Stop answering."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _begin(self) -> None:
        self._called = False
        while self._free and (group := self._take()):
            model = group[0].model
            given = group[0].given if len(group) == 1 else _join([work.given for work in group])
            size = sum(work.size for work in group)
            if size * model.seconds < _AT_ONCE_S and all(
                column.shape[1:] == model.facts[name].shape for name, column in given.items()
            ):
                self._answer(group, model, given)
                continue
            self._free -= 1
            running = asyncio.get_running_loop().run_in_executor(self._pool, model.answer, given)
            running.add_done_callback(lambda found, group=group: self._freed(group, found))  # type: ignore[misc]

    def _answer(self, group: list[_Work], model: Model, given: Mapping[str, np.ndarray]) -> None:
        try:
            self._end(group, model.answer(given))
        except Exception as error:  # goes to the requests of the batch
            self._end(group, error)

    def _freed(self, group: list[_Work], found: "asyncio.Future[dict[str, np.ndarray]]") -> None:
        self._free += 1
        self._end(group, found.exception() or found.result())
        self._begin()

    def _take(self) -> list[_Work]:
        """Take the first waiting request and all that can be answered with it; drop cancelled ones."""
        group: list[_Work] = []
        rest: deque[_Work] = deque()
        size, most = 0, self._max_batch
        while self._waiting:
            work = self._waiting.popleft()
            if work.done.done():
                self._count -= work.size
                continue
            fits = not group or (
                work.model is group[0].model and work.shapes == group[0].shapes and size + work.size <= most
            )
            if not fits:
                rest.append(work)
                continue
            most = min(self._max_batch, max(1, int(_LONG_S / work.model.seconds)))
            group.append(work)
            size += work.size
            self._count -= work.size
            if size >= most:
                break
        self._waiting.extendleft(reversed(rest))
        return group

    def _end(self, group: list[_Work], found: dict[str, np.ndarray] | BaseException) -> None:
        self._tell()
        start = 0
        for work in group:
            end = start + work.size
            if not work.done.done():
                if isinstance(found, BaseException):
                    work.done.set_exception(found)
                else:
                    work.done.set_result({name: value[start:end] for name, value in found.items()})
            start = end


def _join(parts: Sequence[Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
