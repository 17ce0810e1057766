"""What DVC watches of the user's data: one digest over all files that the source reads.

DVC itself would watch a folder or a table, but not the files that a table names, nor what a link leads to. So
`artifacts/files.json` holds the digest of names and contents of all these files, and ingest depends on it. A
file is read again only if its size or one of its times changed; `.temper/files.parquet` remembers them.
"""

import hashlib
import io
import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from temper.artifacts import write_atomically
from temper.data.sources import LISTED
from temper.progress import track

FILE = "artifacts/files.json"
"""Path of the digest in a project."""
_CACHE = ".temper/files.parquet"
_CHUNK = 256
_Stamp = tuple[int, int, int]
"""Size in bytes, and times of the last change of content and of the file, in nanoseconds."""


def is_watched(source: str) -> bool:
    """Return whether a source reads files of the user."""
    return source in LISTED


def update(project: Path, ingest: Any) -> None:
    """Write `artifacts/files.json` if the files of the source changed. Other sources have no such file.

    Raises:
        ValueError: If the source cannot be read; names the file and the way out.
    """
    if not is_watched(ingest.source):
        return
    listing = LISTED[ingest.source](ingest, project)
    paths = {name: listing.place(name) for name in listing.names}
    origin = project / (ingest.origin or "")
    paths |= {f"/{os.path.relpath(path, origin)}": os.fspath(path) for path in listing.read}
    digests, size = _digest(project / _CACHE, paths)
    whole = hashlib.blake2b(digest_size=16)
    for name in sorted(digests):
        whole.update(f"{name}\0{digests[name]}\n".encode(errors="surrogateescape"))
    text = json.dumps({"files": len(digests), "bytes": size, "digest": whole.hexdigest()}, indent=1) + "\n"
    target = project / FILE
    if not target.is_file() or target.read_text(encoding="utf-8") != text:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, text)


def _digest(cache: Path, paths: dict[str, str]) -> tuple[dict[str, str], int]:
    """Return the digest of each file's content, and the bytes of all of them."""
    known = _read_cache(cache)
    stamps = {name: _stamp(path) for name, path in paths.items()}
    digests = {
        name: found[1] for name, stamp in stamps.items() if (found := known.get(name)) and found[0] == stamp
    }
    fresh = [name for name in paths if name not in digests]
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        read = pool.map(lambda name: _digest_file(paths[name]), fresh, chunksize=_CHUNK)
        digests |= zip(fresh, track(read, "reading the files", len(fresh)) if fresh else read, strict=True)
    if fresh or len(known) != len(digests):
        _write_cache(cache, stamps, digests)
    return digests, sum(stamp[0] for stamp in stamps.values())


def _stamp(path: str) -> _Stamp:
    found = os.stat(path)  # noqa: PTH116, a Path per file takes a second for 100,000 files
    return found.st_size, found.st_mtime_ns, found.st_ctime_ns


def _digest_file(path: str) -> str:
    try:
        with open(path, "rb") as stream:  # noqa: PTH123
            return hashlib.file_digest(stream, lambda: hashlib.blake2b(digest_size=16)).hexdigest()
    except PermissionError as error:
        raise ValueError(
            f"this user may not read {path}; make it readable (`chmod u+r`) or remove it"
        ) from error


def _read_cache(path: Path) -> dict[str, tuple[_Stamp, str]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.ParquetFile(path).read().to_pydict()
        stamps = zip(table["bytes"], table["changed_ns"], table["renewed_ns"], strict=True)
        return dict(zip(table["name"], zip(stamps, table["digest"], strict=True), strict=True))
    except (OSError, pa.ArrowException, KeyError):
        return {}  # it is only a memory: the files are read again


def _write_cache(path: Path, stamps: dict[str, _Stamp], digests: dict[str, str]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    size, changed, renewed = zip(*stamps.values(), strict=True) if stamps else ((), (), ())
    names = [name for name in stamps if _is_text(name)]
    if len(names) < len(stamps):
        return  # ingest refuses such names
    columns = {
        "name": names,
        "bytes": size,
        "changed_ns": changed,
        "renewed_ns": renewed,
        "digest": [digests[name] for name in names],
    }
    stream = io.BytesIO()
    pq.write_table(pa.table({name: list(values) for name, values in columns.items()}), stream)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, stream.getvalue())


def _is_text(name: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in name)
