"""ingest: fetch the raw data and describe each image in a row. No image is decoded or changed."""

import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from temper.artifacts import Artifact, digest_file
from temper.data.dataset.rows import FILE, write_rows
from temper.data.sources import fetch


def run(
    params: SimpleNamespace, inputs: Mapping[str, Artifact], out: Path, *, project: Path, work: Path
) -> dict[str, Any]:
    """Write the source's files and `rows.parquet`.

    Returns:
        The source's name, the folder of the user that was read, the number of examples, the examples per
        label and per official split, the files' digests, and remarks about what was guessed or left out.
    """
    rows, remarks = fetch(params.ingest, project, out)
    for remark in remarks:
        print(f"ingest: {remark}", file=sys.stderr)
    files = {path.name: digest_file(path) for path in sorted(out.iterdir())}
    write_rows(rows, out / FILE)
    return {
        "source": params.ingest.source,
        "origin": params.ingest.origin,
        "examples": len(rows),
        "labels": dict(sorted(Counter(label for row in rows for label in row.labels).items())),
        "splits": dict(sorted(Counter(row.split or "(none)" for row in rows).items())),
        "files": files,
        "remarks": [remark.record() for remark in remarks],
    }
