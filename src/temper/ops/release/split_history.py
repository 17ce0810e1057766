"""Which images were in which split, and which a model was trained on: by their content, whatever they are called now.

New data must not move an image that one model was measured on into what another is trained on. So splits are kept when images
arrive (`splits.parquet`, read by prepare), and every registered version keeps what it was trained on.
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
"""Beside a model: 64 bits of the digest, and of the id, of every image it was trained on, sorted."""
_TABLE = "rows.parquet"


def save_splits(project: Project, params: Params) -> str | None:
    """Keep the splits of what prepare split last, if other data are about to be split; returns what was done.

    Call it between ingest and prepare.
    """
    record = project.artifacts / "prepare" / artifacts.RECORD
    try:
        made_from = json.loads(record.read_text(encoding="utf-8"))["made_from"]["ingest"]
    except (OSError, ValueError, KeyError, TypeError):
        return None  # nothing was split before, or nobody can tell any more
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
        # Images that are gone for the moment may come back.
        before = _read(target)
        now = pa.concat_tables(
            [now, before.filter(pa.compute.invert(pa.compute.is_in(before["id"], now["id"])))]
        )
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    pq.write_table(now.sort_by("id"), temporary, compression="zstd")
    temporary.replace(target)
    dvc.write_dvc_yaml(project, params)  # DVC watches the file from now on
    return f"kept the splits of {now.num_rows} images in {params.prepare.splits}: each stays where it was"


def write_trained(project: Project, target: Path) -> None:
    """Write down what the model in the artifacts was trained on."""
    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    np.save(target, _short(_read(prepared.path(_TABLE)), "train"))


def count_seen(project: Project, version: Registered) -> tuple[int, int]:
    """How many of today's test images a version was trained on, and how many test images there are.

    Told by their pixels; where no image of today has any of the version's (another size), by their ids. Of a version that did
    not keep what it was trained on, nobody can tell: 0.
    """
    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    table = _read(prepared.path(_TABLE))
    test = _short(table, "test")
    path = version.file.with_name(TRAINED)
    if (
        TRAINED not in version.beside
        or not path.is_file()
        or artifacts.digest_file(path) != version.beside[TRAINED]
    ):
        return 0, len(test)
    trained = np.load(path, allow_pickle=False)
    same_size = np.isin(_short(table, None)[:, 0], trained[:, 0]).any()
    told_by = 0 if same_size else 1
    return int(np.isin(test[:, told_by], trained[:, told_by]).sum()), len(test)


def _read(table: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(table).read(columns=["id", "digest", "split"])


def _short(table: Any, split: str | None) -> np.ndarray:
    """64 bits of the digest and of the id of the images of a split, [images, 2]."""
    columns = (table[name].to_pylist() for name in ("digest", "id", "split"))
    pairs = [
        (int(digest[:16], 16), int(hashlib.blake2b(name.encode(), digest_size=8).hexdigest(), 16))
        for digest, name, its in zip(*columns, strict=True)
        if split in (None, its)
    ]
    return np.array(sorted(pairs), np.uint64).reshape(-1, 2)
