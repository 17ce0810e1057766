"""Views: augmented copies of training images, made once before training, by an albumentations policy.

Everything random about a view comes from its own seed, which is made of the project's seed, the example's id and the view's
number; so the images are the same whatever the number of worker processes and whatever other examples there are.
"""

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from temper.data.augmentation.albumentations_policy import apply, compose
from temper.parent_death import end_with_parent
from temper.progress import Bar

WHERE = "augment.policy"
_CHUNK = 128
_WORTH_A_WORKER = 512
"""Views below which another process (some 2 s to start) costs more than it helps."""


@dataclass(frozen=True)
class Draw:
    """One view to make: of which example, with which seed."""

    source: int
    seed: int


@dataclass(frozen=True)
class Chunk:
    """Views that one worker makes in a row; picklable."""

    source: Path
    """Folder of the packed training split."""
    target: Path
    """Folder of the packed views, whose files exist already."""
    policy: Sequence[Mapping[str, Any]]
    spatial: frozenset[str]
    start: int
    """Where the first one stands among the views."""
    draws: Sequence[Draw]


def seed_of(seed: int, name: str, view: int) -> int:
    """Seed of a view of the example called `name`, 0..2**63."""
    digest = hashlib.blake2b(f"{seed}\n{view}\n{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def materialize(
    source: Path,
    target: Path,
    *,
    policy: Sequence[Mapping[str, Any]],
    spatial: frozenset[str],
    draws: Sequence[Draw],
    workers: int,
) -> None:
    """Write a view for each draw, in order: `target/<column>.npy` for each column of the split in `source`.

    Args:
        source: Folder of the packed training split.
        target: Folder to be made.
        policy: Transforms in order.
        spatial: Columns that move along with the image.
        draws: What to make.
        workers: Processes; 0 takes one per core. No more are started than are worth it.

    Raises:
        ValueError: If the policy changes the size or type of an image, or fails on one.
    """
    target.mkdir(parents=True)
    columns = _open(source, "r")
    for name, column in columns.items():
        np.lib.format.open_memmap(target / f"{name}.npy", "w+", column.dtype, (len(draws), *column.shape[1:]))
    step = range(0, len(draws), _CHUNK)
    chunks = [Chunk(source, target, policy, spatial, start, draws[start : start + _CHUNK]) for start in step]
    cores = len(os.sched_getaffinity(0))
    workers = min(workers or cores, 1 + len(draws) // _WORTH_A_WORKER)
    with Bar("augment", len(draws)) as bar:
        if workers == 1:
            for chunk in chunks:
                bar.advance(make_chunk(chunk))
            return
        # Spawned, not forked: a fork would copy threads' locks along.
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=end_with_parent) as pool:
            try:
                for made in pool.map(make_chunk, chunks):
                    bar.advance(made)
            except BrokenProcessPool as error:
                raise ValueError(
                    "a worker process of augment was killed, most likely for lack of memory; set augment.workers to 1"
                ) from error


def make_chunk(chunk: Chunk) -> int:
    """Make the views of a chunk and return how many."""
    source, target = _open(chunk.source, "r"), _open(chunk.target, "r+")
    transform = compose(chunk.policy, chunk.spatial & set(source), WHERE)
    for position, draw in enumerate(chunk.draws, chunk.start):
        example = {name: np.array(column[draw.source]) for name, column in source.items()}
        for name, value in apply(transform, example, chunk.spatial, draw.seed, WHERE).items():
            target[name][position] = value
    return len(chunk.draws)


def _open(folder: Path, mode: Any) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, mmap_mode=mode) for path in sorted(folder.glob("*.npy"))}
