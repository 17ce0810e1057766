"""Which images were in which split, and on which images a version was trained.

Images are identified by their content, since their names may change. New data must not move an image on which
one model was measured into the training split of another. So the splits are stored when images arrive
(`splits.parquet`, which prepare reads), and every registered version stores its training images.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np

from temper import artifacts
from temper.config import Params
from temper.ops import dvc
from temper.ops.mlflow.model_versions import Registered
from temper.ops.project import Project

TRAINED = "trained.npy"
"""File beside a model, with one row for each of its training images, sorted.

A row has 64 bits of the image's digest and 64 bits of the digest of its id.
"""
_TABLE = "rows.parquet"
KEPT = ("channels", "levels")
"""Metadata of the stored splits: facts about the images that new images do not change, since one image in
colour or with other levels would turn all images of a project into others."""


def save_splits(project: Project, params: Params) -> str | None:
    """Store the last splits if prepare is about to split other data; returns a message, or None.

    Call it between ingest and prepare.
    """
    record = project.artifacts / "prepare" / artifacts.RECORD
    try:
        last = json.loads(record.read_text(encoding="utf-8"))
        made_from, inputs = last["made_from"]["ingest"], last["facts"]["inputs"]
        kept = {name: json.dumps(each[name]) for each in inputs for name in KEPT if name in each}
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing was split before, or the record is unreadable
    table = record.with_name(_TABLE)
    if (
        not table.is_file()
        or made_from == artifacts.load("ingest", project.artifacts / "ingest", check_files=False).digest
    ):
        return None
    import pyarrow as pa
    import pyarrow.compute
    import pyarrow.parquet as pq

    target = project.folder / params.prepare.splits
    now = _read(table)
    if target.is_file():
        # Images that are missing now may come back later.
        before = _read(target)
        now = pa.concat_tables(
            [now, before.filter(pa.compute.invert(pa.compute.is_in(before["id"], now["id"])))]
        )
    now = now.sort_by("id").replace_schema_metadata(kept)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    pq.write_table(now, temporary, compression="zstd")
    temporary.replace(target)
    dvc.write_dvc_yaml(project, params)  # DVC watches the file from now on
    return (
        f"stored the splits of {now.num_rows} images in {params.prepare.splits}: each image stays in its "
        "split"
    )


def write_trained(project: Project, target: Path) -> None:
    """Write the digests of the images on which the model in the artifacts was trained."""
    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    np.save(target, _shorten(_read(prepared.path(_TABLE)), "train"))


def count_seen(project: Project, version: Registered) -> tuple[int, int]:
    """Return on how many of the current test images a version was trained, and the number of test images.

    Images are compared by their pixels. If no current image has the pixels of any training image, for example
    because prepare's image size changed, they are compared by their ids. The count is 0 for a version without
    an intact list of its training images.
    """
    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    table = _read(prepared.path(_TABLE))
    test = _shorten(table, "test")
    path = version.file.with_name(TRAINED)
    if (
        TRAINED not in version.beside
        or not path.is_file()
        or artifacts.digest_file(path) != version.beside[TRAINED]
    ):
        return 0, len(test)
    trained = np.load(path, allow_pickle=False)
    same_size = np.isin(_shorten(table, None)[:, 0], trained[:, 0]).any()
    column = 0 if same_size else 1
    return int(np.isin(test[:, column], trained[:, column]).sum()), len(test)


def _read(table: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(table).read(columns=["id", "digest", "split"])


def _shorten(table: Any, split: str | None) -> np.ndarray:
    """Return 64 bits of the digest of each image and of its id, sorted: [images, 2].

    Args:
        table: Table of the images.
        split: Split whose images are returned; None stands for all splits.
    """
    columns = (table[name].to_pylist() for name in ("digest", "id", "split"))
    pairs = [
        (int(digest[:16], 16), int(hashlib.blake2b(name.encode(), digest_size=8).hexdigest(), 16))
        for digest, name, its in zip(*columns, strict=True)
        if split in (None, its)
    ]
    return np.array(sorted(pairs), np.uint64).reshape(-1, 2)
