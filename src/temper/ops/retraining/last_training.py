"""The examples of the last training, and how the current ones differ from them.

`.temper/retrain.parquet` stores id, split, pixels and truth of each example. Pixels and truth are stored as
digests. The file is written after the model of the training was registered.
"""

import io
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from temper import artifacts
from temper.ops.project import Project

FILE = "retrain.parquet"
_TABLE = "rows.parquet"
_KEY = b"temper"
"""Key of the file's metadata: the time, prepare's digest and the classes."""


@dataclass(frozen=True)
class Differences:
    """Numbers of examples that differ from those of the last training."""

    new: int = 0
    """Examples in the training split that it did not contain."""
    replaced: int = 0
    """Examples with the id of a former one and other pixels."""
    relabelled: int = 0
    """Examples with the pixels of a former one and another truth: other labels, or another mask."""
    gone: int = 0
    """Examples of the former training split that it no longer contains."""
    other: bool = False
    """Whether prepare's artifact differs at all."""

    def __str__(self) -> str:
        parts = [f"{self.new} new training examples"]
        parts += [f"{self.relabelled} relabelled"] if self.relabelled else []
        parts += [f"{self.replaced} with other pixels"] if self.replaced else []
        parts += [f"{self.gone} removed"] if self.gone else []
        return ", ".join(parts)


def record(project: Project) -> None:
    """Store the examples on which the artifacts were trained; call it after their model was registered."""
    import pyarrow.parquet as pq

    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    about = {"time": time.time(), "prepare": prepared.digest, "classes": _classes(prepared)}
    table = _read(prepared.path(_TABLE))
    stream = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(about)}), stream, compression="zstd")
    artifacts.write_atomically(project.hidden / FILE, stream.getvalue())


def compare(project: Project) -> tuple[float, Differences] | None:
    """Compare prepare's examples with those of the last training.

    Examples with equal pixels are the same example. If there are none with equal pixels, examples with the
    same id are.

    Returns:
        The time of the last training, in seconds since 1970, and the differences; None if no training is
        on record, or its record is damaged.
    """
    from pyarrow import ArrowException

    path = project.hidden / FILE
    try:
        before = _read(path)
        about = json.loads(before.schema.metadata[_KEY])
        last, digest, classes = float(about["time"]), about["prepare"], about["classes"]
    except (OSError, ArrowException, ValueError, KeyError, TypeError):
        return None
    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    if prepared.digest == digest:
        return last, Differences()
    # A truth is stored by the numbers of the classes, so other classes are compared by their names.
    truth = "truth" if _classes(prepared) == classes else "labels"
    return last, _count(before.to_pydict(), _read(prepared.path(_TABLE)).to_pydict(), truth)


def _count(before: Mapping[str, list[Any]], now: Mapping[str, list[Any]], truth: str) -> Differences:
    truths: dict[str, set[str]] = {}
    for digest, value in zip(before["digest"], before[truth], strict=True):
        truths.setdefault(digest, set()).add(str(value))
    names = set(before["id"])
    trained = [split == "train" for split in before["split"]]
    former = {
        key for column in ("digest", "id") for key, was in zip(before[column], trained, strict=True) if was
    }
    new = replaced = relabelled = 0
    for name, split, digest, value in zip(now["id"], now["split"], now["digest"], now[truth], strict=True):
        if digest in truths:
            relabelled += str(value) not in truths[digest]
        elif name in names:
            replaced += 1
        new += split == "train" and digest not in former and name not in former
    current = {
        key
        for column in ("digest", "id")
        for key, split in zip(now[column], now["split"], strict=True)
        if split == "train"
    }
    gone = sum(
        was and digest not in current and name not in current
        for name, digest, was in zip(before["id"], before["digest"], trained, strict=True)
    )
    return Differences(new, replaced, relabelled, gone, other=True)


def _classes(prepared: artifacts.Artifact) -> list[str]:
    return list(prepared.facts["problem"].get("classes", []))


def _read(path: Path) -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetFile(path).read(columns=["id", "split", "digest", "labels", "truth"])
