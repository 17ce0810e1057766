"""Augmented copies of training images that an albumentations policy makes once, before training.

Each copy has its own seed, which is made from the project's seed, the example's id and the copy's number.
So a copy does not depend on the number of worker processes or on the other examples.
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
from temper.fields import Field
from temper.parent_death import end_with_parent
from temper.progress import Bar

WHERE = "augment.policy"
_CHUNK = 128
_WORTH_A_WORKER = 512
"""Number of copies below which another process (2 s to start) costs more time than it saves."""


@dataclass(frozen=True)
class Draw:
    """A copy to make: the number of its example, and its seed."""

    source: int
    seed: int


@dataclass(frozen=True)
class Chunk:
    """Copies that one worker makes one after another; picklable."""

    source: Path
    """Folder of the packed training split."""
    target: Path
    """Folder of the packed copies. Its files must exist already."""
    policy: Sequence[Mapping[str, Any]]
    truth: Mapping[str, Field]
    start: int
    """Position of the first of these copies among all copies."""
    draws: Sequence[Draw]
    picture: str
    """Name of the images' column."""


def seed_of(seed: int, name: str, copy: int) -> int:
    """Return the seed of a copy of the example called `name`, 0..2**63."""
    digest = hashlib.blake2b(f"{seed}\n{copy}\n{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def materialize(
    source: Path,
    target: Path,
    *,
    policy: Sequence[Mapping[str, Any]],
    truth: Mapping[str, Field],
    draws: Sequence[Draw],
    workers: int,
    picture: str,
) -> None:
    """Write a copy for each draw, in order: `target/<column>.npy` for each column of the split in `source`.

    Args:
        source: Folder of the packed training split.
        target: Folder to create.
        policy: Transforms in order.
        truth: What the columns of the truth contain.
        draws: Copies to make.
        workers: Largest number of processes; 0 means one per core. Fewer are started if there are few copies.
        picture: Name of the images' column.

    Raises:
        ValueError: If the policy changes the size or type of an image, or fails on one.
    """
    target.mkdir(parents=True)
    columns = _open(source, "r")
    for name, column in columns.items():
        np.lib.format.open_memmap(target / f"{name}.npy", "w+", column.dtype, (len(draws), *column.shape[1:]))
    step = range(0, len(draws), _CHUNK)
    chunks = [
        Chunk(source, target, policy, truth, start, draws[start : start + _CHUNK], picture) for start in step
    ]
    cores = len(os.sched_getaffinity(0))
    workers = min(workers or cores, 1 + len(draws) // _WORTH_A_WORKER)
    with Bar("augment", len(draws)) as bar:
        if workers == 1:
            for chunk in chunks:
                bar.advance(make_chunk(chunk))
            return
        # Spawned, not forked: a fork would also copy the locks that threads hold.
        with ProcessPoolExecutor(workers, get_context("spawn"), initializer=end_with_parent) as pool:
            try:
                for made in pool.map(make_chunk, chunks):
                    bar.advance(made)
            except BrokenProcessPool as error:
                raise ValueError(
                    "a worker process of augment was killed, most likely because memory ran out; "
                    "set augment.workers to 1"
                ) from error


def make_chunk(chunk: Chunk) -> int:
    """Make the copies of a chunk and return their number."""
    source, target = _open(chunk.source, "r"), _open(chunk.target, "r+")
    transform = compose(chunk.policy, chunk.truth, WHERE)
    for position, draw in enumerate(chunk.draws, chunk.start):
        example = {name: np.array(column[draw.source]) for name, column in source.items()}
        made = apply(transform, example, chunk.truth, draw.seed, WHERE, picture=chunk.picture)
        for name, value in made.items():
            target[name][position] = value
    return len(chunk.draws)


def _open(folder: Path, mode: Any) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, mmap_mode=mode) for path in sorted(folder.glob("*.npy"))}
