"""Views: augmented copies of training pictures, made once before training, by an albumentations policy.

Everything random about a view comes from its own seed, which is made of the project's seed, the example's id and the view's
number; so the pictures are the same whatever the number of worker processes and whatever other examples there are.

Compose.set_random_seed would hand *each* transform the same stream (one that flips then always also rotates);
set_random_state shares one stream among all, in order, so their draws are independent.
"""

import hashlib
import os
import random
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np

from temper.data.policy import albumentations, build
from temper.leash import end_with_parent
from temper.progress import Bar

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
        spatial: Columns that move along with the picture.
        draws: What to make.
        workers: Processes; 0 takes one per core. No more are started than are worth it.

    Raises:
        ValueError: If the policy changes the size or type of a picture, or fails on one.
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
    transform = _compose(chunk.policy, chunk.spatial, source)
    for position, draw in enumerate(chunk.draws, chunk.start):
        example = {name: np.array(column[draw.source]) for name, column in source.items()}
        for name, value in _view(transform, example, chunk.spatial, draw.seed).items():
            target[name][position] = value
    return len(chunk.draws)


def _compose(policy: Sequence[Mapping[str, Any]], spatial: frozenset[str], columns: Mapping[str, np.ndarray]) -> Any:
    library = albumentations()
    import cv2

    cv2.setNumThreads(1)  # the processes share the cores already
    extra: dict[str, Any] = {
        "additional_targets": {name: "mask" for name in sorted(spatial & set(columns)) if name != "boxes"}
    }
    if "boxes" in columns:
        extra["bbox_params"] = library.BboxParams(format="pascal_voc", label_fields=["box_numbers"], clip=True)
    return library.Compose(build(policy), **extra)


def _view(
    transform: Any, example: Mapping[str, np.ndarray], spatial: frozenset[str], seed: int
) -> dict[str, np.ndarray]:
    """One example transformed; columns that do not move are copied."""
    moving = sorted(name for name in ({"image"} | spatial) & set(example) if name != "boxes")
    given: dict[str, Any] = {name: example[name] for name in moving}
    if "boxes" in example:
        valid = np.flatnonzero(example.get("boxes_valid", np.ones(len(example["boxes"]), bool)))
        given |= {"bboxes": example["boxes"][valid].astype(np.float32), "box_numbers": valid}
    transform.set_random_state(np.random.default_rng(seed), random.Random(seed))
    try:
        made = transform(**given)
    except (ValueError, TypeError, RuntimeError) as error:
        shape = "x".join(map(str, example["image"].shape))
        raise ValueError(
            f"augment.policy fails on a picture of shape {shape}: {' '.join(str(error).split())}"
        ) from error
    result = dict(example)
    for name in moving:
        result[name] = _same_kind(name, made[name], example[name])
    if "boxes" in example:
        result |= _boxes(made["bboxes"], made["box_numbers"], example)
    return result


def _same_kind(name: str, made: np.ndarray, given: np.ndarray) -> np.ndarray:
    if made.shape == given.shape[:2] and given.shape[2:] == (1,):
        made = made[..., None]
    if made.shape != given.shape:
        raise ValueError(
            f"augment.policy turns {name} of shape {given.shape} into {made.shape}; views must keep their size: "
            "end the policy with {name: Resize, height: ..., width: ...}"
        )
    if made.dtype != given.dtype:
        raise ValueError(
            f"augment.policy turns {name} of type {given.dtype} into {made.dtype}; leave out transforms like Normalize and "
            "ToFloat: normalisation is part of the network"
        )
    return made


def _boxes(made: Any, numbers: Any, example: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Boxes keep their places, so that columns beside them need no change; those that left the picture are not valid."""
    boxes = np.zeros_like(example["boxes"])
    valid = np.zeros(len(boxes), bool)
    for box, number in zip(made, numbers, strict=True):
        boxes[int(number)] = box[:4]
        valid[int(number)] = True
    return {"boxes": boxes, "boxes_valid": valid}


def _open(folder: Path, mode: Any) -> dict[str, np.ndarray]:
    return {path.stem: np.load(path, mmap_mode=mode) for path in sorted(folder.glob("*.npy"))}
