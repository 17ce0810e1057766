"""What a project keeps when new images arrive: each image's split, and the channels and levels of all."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from temper.data.dataset.rows import Rows
from temper.data.params import PrepareParams


def keep_settings(params: PrepareParams, splits: Path) -> PrepareParams:
    """Return the settings; what is `auto` becomes the channels and levels that the images had before.

    The champion sees such images, and with other channels or levels all images would be new.
    """
    if not splits.is_file():
        return params
    import pyarrow.parquet as pq

    try:
        found = pq.read_schema(splits).metadata or {}
        channels, levels = (json.loads(found[name]) for name in (b"channels", b"levels"))
    except (OSError, ValueError, KeyError):
        return params  # `read_kept` says if the file is damaged
    if params.mode == "auto":
        params = replace(params, mode="grey" if channels == 1 else "colour")
    if params.range == "auto" and levels != "full":
        params = replace(params, range=levels if levels == "per-image" else (levels[0], levels[1]))
    return params


def read_kept(path: Path, rows: Rows, digests: np.ndarray) -> list[str | None] | None:
    """Return the split that each image was in before, or None if no splits are recorded.

    An image is found by its pixels or, if these are not known, by its id.

    Raises:
        ValueError: If the file of splits is damaged.
    """
    if not path.is_file():
        return None
    import pyarrow.parquet as pq

    try:
        found = pq.ParquetFile(path).read(columns=["id", "digest", "split"])
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(
            f"{path} is damaged ({error}); restore it, or delete it to split all images again"
        ) from error
    splits = found["split"].to_pylist()
    by_digest = dict(zip(found["digest"].to_pylist(), splits, strict=True))
    by_id = dict(zip(found["id"].to_pylist(), splits, strict=True))
    pairs = zip(digests.tolist(), rows.table["id"].to_pylist(), strict=True)
    return [by_digest.get(digest.decode()) or by_id.get(name) for digest, name in pairs]
