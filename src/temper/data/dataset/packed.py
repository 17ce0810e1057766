"""Splits as a few large files: an array per column, with examples along the first axis, and a table of rows.

`train/image.npy` is uint8 [examples, height, width, channels]; a text or a row of a table is a file of its
own, too. Every other file is a column of the ground truth, as the problem packs it. The test split has a
separate reader, `held_out`, which only measurements may call.

If the training images are stored encoded, they are in `encoded/` (`data/images/encoded.py`), and `train/`
contains only the ground truth.
"""

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from temper.artifacts import Artifact
from temper.data.dataset.rows import GROUP
from temper.data.images.encoded import BYTES, FOLDER, Encoded
from temper.inputs.facts import Facts, picture_of
from temper.inputs.image_input import ImageInput, image_of
from temper.inputs.stored import read_record
from temper.problem import Targets

TABLE = "rows.parquet"
GROUPED = "grouped"
"""Key of prepare's facts that is there if any example belongs to a group."""
_CHUNK = 1024


def write_split(folder: Path, columns: Mapping[str, np.ndarray], numbers: np.ndarray) -> None:
    """Write the given examples of each column, in chunks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, column in columns.items():
        size = _chunk_of(column)
        chunks = (column[numbers[start : start + size]] for start in range(0, len(numbers), size))
        write_array(folder / f"{name}.npy", chunks, (len(numbers), *column.shape[1:]), column.dtype)


def write_array(
    path: Path, chunks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    """Write a .npy file chunk by chunk. It is not mapped, so it does not count as memory of the process."""
    with path.open("wb") as stream:
        head = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, head)
        for chunk in chunks:
            stream.write(np.ascontiguousarray(chunk, dtype).data)


def _chunk_of(column: np.ndarray) -> int:
    """Return how many examples are copied at once: fewer clips than images, since each has several frames."""
    return max(1, _CHUNK // math.prod(column.shape[1:-3]))


def measure(images: np.ndarray, numbers: np.ndarray | None = None) -> ImageInput:
    """Return shape and exact statistics of packed images, from a histogram of the pixels.

    Args:
        images: The images, [images, height, width, channels], or clips with an axis of frames before these.
        numbers: Which of them count; None if all do.
    """
    *_, height, width, channels = images.shape
    num_examples, size = len(images) if numbers is None else len(numbers), _chunk_of(images)
    counts = np.zeros((channels, 256), np.int64)
    for start in range(0, num_examples, size):
        some = slice(start, start + size)
        chunk = np.asarray(images[some] if numbers is None else images[numbers[some]])
        for channel in range(channels):
            counts[channel] += np.bincount(chunk[..., channel].ravel(), minlength=256)
    levels = np.arange(256)
    total = counts.sum(axis=1)
    mean = (counts * levels).sum(axis=1) / total
    variance = (counts * (levels - mean[:, None]) ** 2).sum(axis=1) / total
    return ImageInput(height, width, channels, tuple(map(float, mean)), tuple(map(float, np.sqrt(variance))))


def write_table(path: Path, columns: Mapping[str, Any]) -> None:
    """Write a table of rows as Parquet; columns are sequences or Arrow arrays."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.table(
        {
            name: values if isinstance(values, (pa.Array, pa.ChunkedArray)) else pa.array(values)
            for name, values in columns.items()
        }
    )
    pq.write_table(table, path, compression="zstd", row_group_size=GROUP)


def read_table(path: Path, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Read all columns, or the named ones, of a table of rows."""
    import pyarrow.parquet as pq

    columns: dict[str, list[Any]] = pq.ParquetFile(path).read(names).to_pydict()
    return columns


def open_split(prepare: Artifact, split: Literal["train", "validation"]) -> dict[str, np.ndarray]:
    """Return the columns of a split, mapped from disk, read-only.

    The training split has no column `image` if its images are stored encoded.
    """
    assert split in ("train", "validation"), "the test split has a separate reader"
    return _open(prepare, f"{split}/")


def open_encoded(prepare: Artifact) -> Encoded | None:
    """Return the training images if they are stored encoded, otherwise None."""
    if f"{FOLDER}/{BYTES}" not in prepare.files:
        return None
    return _open_encoded(prepare.folder, read_record(prepare.facts["inputs"]))


def open_columns(folder: Path, facts: Facts) -> "dict[str, np.ndarray | Encoded]":
    """Return the columns of the training split, images included, before prepare's folder is an artifact."""
    columns: dict[str, np.ndarray | Encoded] = {
        path.stem: np.load(path, mmap_mode="r") for path in sorted((folder / "train").glob("*.npy"))
    }
    picture = picture_of(facts)
    if picture is not None and picture not in columns:
        columns[picture] = _open_encoded(folder, facts)
    return columns


def open_inputs(prepare: Artifact) -> "dict[str, np.ndarray | Encoded]":
    """Return the inputs of the training examples by number; images in one size, encoded or not."""
    facts = read_record(prepare.facts["inputs"])
    columns, encoded = open_split(prepare, "train"), open_encoded(prepare)
    return {name: columns[name] if name in columns or encoded is None else encoded for name in facts}


def _open_encoded(folder: Path, facts: Facts) -> Encoded:
    image = image_of(facts)
    return Encoded(
        folder / FOLDER,
        height_px=image.height_px,
        width_px=image.width_px,
        channels=image.channels,
        fit=image.fit,
    )


def held_out(prepare: Artifact) -> dict[str, np.ndarray]:
    """Return the columns of the test split.

    Only measurements may call this: after a choice that depends on the test split, its results are no longer
    a test.
    """
    return _open(prepare, "test/")


def as_targets(columns: Mapping[str, np.ndarray], inputs: Collection[str]) -> Targets:
    """Return the packed ground truth as tensors of the same types; `rows_of` takes some rows of it.

    Args:
        columns: Columns of a split.
        inputs: Names of those that are inputs.
    """
    import torch

    return {
        name: torch.from_numpy(np.array(column)) for name, column in columns.items() if name not in inputs
    }


def read_strata(prepare: Artifact, split: Literal["train", "validation", "test"]) -> list[frozenset[str]]:
    """Return the strata of a split's examples in the order of the packed files; equal sets are one object."""
    known: dict[frozenset[str], frozenset[str]] = {}
    found = (frozenset(names) for names in read_rows_of(prepare, split, ["strata"])["strata"])
    return [known.setdefault(each, each) for each in found]


def read_rows_of(prepare: Artifact, split: str, names: Sequence[str] | None = None) -> dict[str, list[Any]]:
    """Return all or the named columns of a split's table of rows, in the order of the packed files."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    wanted = None if names is None else list(dict.fromkeys((*names, "split", "index")))
    table = pq.ParquetFile(prepare.path(TABLE)).read(wanted)
    table = table.filter(pc.equal(table["split"], split)).sort_by("index")
    columns: dict[str, list[Any]] = (table if names is None else table.select(list(names))).to_pydict()
    return columns


def open_training(
    prepare: Artifact, augment: Artifact
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Return everything that training draws from: the training split, followed by the copies.

    Returns:
        Columns (mapped from disk if there are no copies; without `image` if images are stored encoded), how
        often an epoch draws each example (int64), and the weight of each example (float32, mean 1).
    """
    import pyarrow.parquet as pq

    columns = open_split(prepare, "train")
    copies = _open(augment, "copies/")
    if copies:
        columns = {name: np.concatenate([column, copies[name]]) for name, column in columns.items()}
    table = pq.ParquetFile(augment.path(TABLE)).read(["index", "repeats", "weight"])
    order = np.argsort(table["index"].to_numpy())
    repeats = table["repeats"].to_numpy().astype(np.int64)[order]
    weights = table["weight"].to_numpy().astype(np.float32)[order]
    assert all(len(column) == len(repeats) for column in columns.values()), (
        "the table and the packed files have the same number of examples"
    )
    return columns, repeats, weights


def read_strata_drawn(augment: Artifact) -> list[frozenset[str]]:
    """Return the strata of everything that training draws from, in the order of `open_training`'s columns.

    A copy has the strata of its image.
    """
    table = read_table(augment.path(TABLE))
    return [frozenset(table["strata"][i]) for i in np.argsort(table["index"])]


def check_batch(batch_size: int, repeats: np.ndarray, *, key: str, num_ranks: int = 1) -> None:
    """Check that an epoch has at least one complete batch, and a batch at least one example for every rank.

    Args:
        batch_size: Number of examples of a global batch.
        repeats: How often an epoch draws each example of the training split, copies included.
        key: Key of the batch size in params.yaml.
        num_ranks: Number of ranks that share a batch.

    Raises:
        ValueError: If not; the message contains the number of examples or ranks.
    """
    if batch_size < num_ranks:
        raise ValueError(
            f"{key} = {batch_size} cannot be shared by {num_ranks} ranks; set it to {num_ranks} or more"
        )
    drawn = int(repeats.sum())
    if batch_size > drawn:
        raise ValueError(
            f"{key} = {batch_size}, but an epoch draws only {drawn} examples (a training split of "
            f"{len(repeats)} with its copies, rebalanced by augment); set {key} to {drawn} or less, "
            "or add images"
        )


def _open(artifact: Artifact, prefix: str) -> dict[str, np.ndarray]:
    load: Callable[..., np.ndarray] = np.load
    names = [name for name in sorted(artifact.files) if name.startswith(prefix) and name.endswith(".npy")]
    return {Path(name).stem: load(artifact.path(name), mmap_mode="r", allow_pickle=False) for name in names}
