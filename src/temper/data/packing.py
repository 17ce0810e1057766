"""Splits as few large files: one array per column, the examples along its first axis, rows of a table beside them.

`train/image.npy` is uint8 [examples, height, width, channels]; every other file is a column of the truth, as the problem packs
it. The test split has a reader of its own, `held_out`: only evaluate may call it.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from temper.artifacts import Artifact
from temper.data.unified import Unified
from temper.problem import Facts, Problem, Row

TABLE = "rows.parquet"
_CHUNK = 1024


class Truth:
    """What is true of all rows: columns in files under `work`, strata, and a digest for each row."""

    def __init__(self, problem: Problem, num_rows: int, work: Path) -> None:
        self.columns: dict[str, np.ndarray] = {}
        self.strata: list[frozenset[str]] = [frozenset()] * num_rows
        self.digests: list[str] = [""] * num_rows
        self._problem, self._work = problem, work

    def pack(self, number: int, row: Row, pictures: Mapping[str, np.ndarray]) -> None:
        """Ask the problem what is true of a row; a ValueError of its own passes through."""
        columns = self._problem.pack(row, pictures)
        self.strata[number] = self._problem.strata(columns)
        sha = hashlib.blake2b(digest_size=16)
        for name in sorted(columns):
            value = np.asarray(columns[name])
            if name not in self.columns:
                shape = (len(self.strata), *value.shape)
                memory = np.lib.format.open_memmap(self._work / f"truth-{name}.npy", "w+", value.dtype, shape)
                self.columns[name] = np.asarray(memory)  # a plain view: memmap's own indexing is slow
            self.columns[name][number] = value
            sha.update(value.tobytes())
        self.digests[number] = sha.hexdigest()


def pack_truth(rows: Sequence[Row], unified: Unified, problem: Problem, work: Path) -> Truth:
    """Truth of every row that is not bad; rows the problem refuses join the bad ones with its reason."""
    truth = Truth(problem, len(rows), work)
    images = np.asarray(unified.images)
    for number, row in enumerate(rows):
        if number in unified.bad:
            continue
        pictures = {"image": images[number]}
        if unified.masks is not None and row.mask is not None:
            pictures["mask"] = unified.masks[number]
        try:
            truth.pack(number, row, pictures)
        except ValueError as error:
            unified.bad[number] = str(error)
    return truth


def write_split(folder: Path, columns: Mapping[str, np.ndarray], numbers: Sequence[int]) -> None:
    """Write the given examples of each column, in chunks."""
    folder.mkdir(parents=True)
    for name, column in columns.items():
        target = np.lib.format.open_memmap(
            folder / f"{name}.npy", "w+", column.dtype, (len(numbers), *column.shape[1:])
        )
        for start in range(0, len(numbers), _CHUNK):
            chunk = numbers[start : start + _CHUNK]
            target[start : start + len(chunk)] = column[list(chunk)]
        target.flush()


def measure(folder: Path) -> Facts:
    """Shape and statistics of a split's pictures, exact: from a histogram of its pixels."""
    images = np.load(folder / "image.npy", mmap_mode="r")
    num_examples, height, width, channels = images.shape
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, num_examples, _CHUNK):
        chunk = np.asarray(images[start : start + _CHUNK])
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    levels = np.arange(256)
    total = counts.sum(axis=1)
    mean = (counts * levels).sum(axis=1) / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    return Facts(height, width, channels, tuple(map(float, mean)), tuple(map(float, np.sqrt(variance))))


def write_table(path: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """Write a readable table of rows as Parquet."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({name: pa.array(values) for name, values in columns.items()}), path, compression="zstd")


def read_table(path: Path) -> dict[str, list[Any]]:
    """Read a table of rows, by columns."""
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = pq.ParquetFile(path).read().to_pydict()
    return columns


def open_split(prepare: Artifact, split: Literal["train", "validation"]) -> dict[str, np.ndarray]:
    """Columns of a split, mapped from disk, read-only."""
    assert split in ("train", "validation"), "the test split has a reader of its own"
    return _open(prepare, f"{split}/")


def held_out(prepare: Artifact) -> dict[str, np.ndarray]:
    """Columns of the test split. Only evaluate may call this: whoever chooses by the test split has no test any more."""
    return _open(prepare, "test/")


def read_strata(prepare: Artifact, split: Literal["train", "validation", "test"]) -> list[frozenset[str]]:
    """Strata of a split's examples, in the order of the packed files."""
    return [frozenset(names) for names in read_rows_of(prepare, split)["strata"]]


def read_rows_of(prepare: Artifact, split: str) -> dict[str, list[Any]]:
    """The readable table of a split, by columns, in the order of the packed files."""
    table = read_table(prepare.path(TABLE))
    numbers = [i for i, name in enumerate(table["split"]) if name == split]
    numbers.sort(key=lambda i: table["index"][i])
    return {name: [values[i] for i in numbers] for name, values in table.items()}


def open_training(prepare: Artifact, augment: Artifact) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Everything training draws from: the training split with the views behind it.

    Returns:
        Columns (mapped from disk where there are no views), how often an epoch draws each example (int64), and how much
        each counts (float32, mean 1).
    """
    columns = open_split(prepare, "train")
    views = _open(augment, "views/")
    if views:
        columns = {name: np.concatenate([column, views[name]]) for name, column in columns.items()}
    table = read_table(augment.path(TABLE))
    order = np.argsort(table["index"])
    repeats = np.asarray(table["repeats"], np.int64)[order]
    weights = np.asarray(table["weight"], np.float32)[order]
    assert len(repeats) == len(columns["image"]), "the table of rows and the packed files count the same examples"
    return columns, repeats, weights


def read_strata_drawn(augment: Artifact) -> list[frozenset[str]]:
    """Strata of everything training draws from, in the order of `open_training`'s columns; a view has its picture's."""
    table = read_table(augment.path(TABLE))
    return [frozenset(table["strata"][i]) for i in np.argsort(table["index"])]


def check_batch(batch_size: int, repeats: np.ndarray, *, key: str, num_ranks: int = 1) -> None:
    """An epoch has at least one whole batch, and a batch an example for every rank.

    Args:
        batch_size: Examples of a global batch.
        repeats: How often an epoch draws each example of the training split, views included.
        key: Of the batch size in params.yaml.
        num_ranks: How many share a batch.

    Raises:
        ValueError: If not; says how many examples or ranks there are.
    """
    if batch_size < num_ranks:
        raise ValueError(f"{key} = {batch_size} cannot be shared by {num_ranks} ranks; make it {num_ranks} or more")
    drawn = int(repeats.sum())
    if batch_size > drawn:
        raise ValueError(
            f"{key} = {batch_size}, but an epoch draws only {drawn} examples (a training split of {len(repeats)} with its "
            f"views, rebalanced by augment); set {key} to {drawn} or less, or add pictures"
        )


def _open(artifact: Artifact, prefix: str) -> dict[str, np.ndarray]:
    load: Callable[..., np.ndarray] = np.load
    names = [name for name in sorted(artifact.files) if name.startswith(prefix) and name.endswith(".npy")]
    return {Path(name).stem: load(artifact.path(name), mmap_mode="r", allow_pickle=False) for name in names}
