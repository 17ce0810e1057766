"""ingest: fetch the raw data and describe each image in a row. No image is decoded or changed."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from temper.artifacts import Artifact, digest_file
from temper.data.dataset.rows import FILE, write_rows
from temper.data.sources import SOURCES


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path
) -> dict[str, Any]:
    """Write the source's files and `rows.parquet`.

    Returns:
        The source's name, the folder of the user that was read, the number of examples, the examples per
        label and per official split, and the files' digests.
    """
    rows = SOURCES[params.ingest.source](params.ingest, project, out)
    files = {path.name: digest_file(path) for path in sorted(out.iterdir())}
    write_rows(rows, out / FILE)
    return {
        "source": params.ingest.source,
        "origin": params.ingest.origin,
        "examples": len(rows),
        "labels": dict(sorted(Counter(label for row in rows for label in row.labels).items())),
        "splits": dict(sorted(Counter(row.split or "(none)" for row in rows).items())),
        "files": files,
    }
