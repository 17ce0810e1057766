"""Hand-overs between stages: a folder of files plus one frozen record, written last.

`artifact.json` says which stage made the folder, from what, and what every file in it must hash to. It is written into
a temporary name and renamed, so a folder without it is an unfinished one. `load` believes nothing: it checks the stage, the
digests of the files and that the inputs it was made from are the ones that lie there now.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

RECORD = "artifact.json"
WEIGHTS = "network.safetensors"
"""File in which a training stage leaves its network."""
STAGE_OF_CHECKPOINTS = "stage"
"""File in a folder of checkpoints that names the stage they are of."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """What a stage left behind."""

    stage: str
    digest: str
    """Over the stage's name and the digests of its files: equal contents have equal digests."""
    made_from: Mapping[str, str]
    """Input stage -> digest of its artifact."""
    params: str
    """Digest of the parameters it was made with."""
    code: str
    """Digest of the source files it was made with."""
    files: Mapping[str, str]
    """Relative path -> SHA-256."""
    facts: Mapping[str, Any]
    """The stage's own: JSON values only."""
    folder: Path = field(default=Path(), compare=False)

    def path(self, name: str) -> Path:
        """Where one of its files lies.

        Raises:
            ValueError: If the artifact holds no such file.
        """
        if name not in self.files:
            raise ValueError(
                f"{self.folder} holds no file {name!r}; it holds {', '.join(sorted(self.files))}"
            )
        return self.folder / name


def digest_file(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()


def digest_json(value: Any) -> str:
    """SHA-256 of a JSON value, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_files(paths: Iterable[Path], root: Path) -> str:
    """SHA-256 over names (relative to `root`) and contents of files."""
    return digest_json({path.relative_to(root).as_posix(): digest_file(path) for path in paths})


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader, also after a power cut, finds the old one or the new one, never a part.

    Raises:
        OSError: If it cannot be written; it names the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:  # writing, unlike opening, does not say which file it was
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def forget_unfinished(folder: Path) -> None:
    """Remove what `write_atomically` left in a folder when its process was killed."""
    for part in folder.glob(".*"):
        part.unlink(missing_ok=True)


def write_sealed(path: Path, value: Any) -> None:
    """Write a JSON value and its digest, atomically."""
    write_atomically(path, json.dumps({"value": value, "digest": digest_json(value)}))


def read_sealed(path: Path) -> Any:
    """What `write_sealed` wrote.

    Raises:
        ValueError: If it is missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["digest"] != digest_json(found["value"]):
            raise ValueError("its digest does not match")
        return found["value"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); run `make pipeline` again") from error


def flush(path: Path) -> None:
    """Have the kernel put a file, or the list of names in a folder, onto the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explain(error: OSError) -> str:
    """What the file system complains about, as a paragraph with a way out."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk{where}; free some and run the same command again"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return f"{error.strerror}{where}: something else lies where a file or folder of ours belongs; remove it and run the same command again"
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return f"no permission{where}: {error.strerror}; mend that (`ls -ld` shows whose it is) and run the same command again"
    return f"{error.strerror or error}{where}"


def write(
    stage: str,
    folder: Path,
    *,
    made_from: Mapping[str, str],
    params: str,
    code: str,
    facts: Mapping[str, Any],
) -> Artifact:
    """Seal a folder: hash every file in it and write its record last."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)
    files = {path.relative_to(folder).as_posix(): digest_file(path) for path in paths}
    for path in paths:
        flush(path)
    artifact = Artifact(
        stage=stage,
        digest=digest_json({"stage": stage, "files": files, "facts": facts}),
        made_from=dict(made_from),
        params=params,
        code=code,
        files=files,
        facts=facts,
        folder=folder,
    )
    record = {key: value for key, value in asdict(artifact).items() if key != "folder"}
    write_atomically(folder / RECORD, json.dumps(record, indent=2, sort_keys=True) + "\n")
    return artifact


def publish(partial: Path, final: Path) -> None:
    """Put a sealed folder where everybody looks for it, in one rename; the one that lay there goes."""
    old = partial.with_name(f"{partial.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    final.parent.mkdir(parents=True, exist_ok=True)
    if final.exists():
        final.replace(old)
    partial.replace(final)
    flush(final.parent)
    shutil.rmtree(old, ignore_errors=True)


def load(stage: str, folder: Path, *, check_files: bool = True) -> Artifact:
    """Read an artifact's record and check that the folder is what the record says.

    Args:
        stage: The stage that must have made it.
        folder: Where it lies.
        check_files: Hash every file again; False trusts names and sizes to be as they were.

    Raises:
        ValueError: If it is missing, unfinished, of another stage, damaged, or made from inputs other than those beside it.
    """
    remedy = "run `make pipeline`"
    path = folder / RECORD
    if not path.is_file():
        state = "is unfinished: it has no artifact.json" if folder.is_dir() else "does not exist"
        raise ValueError(f"{folder} {state}; {remedy}")
    try:
        artifact = Artifact(**json.loads(path.read_text(encoding="utf-8")), folder=folder)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); delete {folder} and {remedy}") from error
    if artifact.stage != stage:
        raise ValueError(f"{folder} was made by stage {artifact.stage!r}, expected {stage!r}; {remedy}")
    if artifact.digest != digest_json({"stage": stage, "files": artifact.files, "facts": artifact.facts}):
        raise ValueError(f"{path} was edited: its digest does not match; delete {folder} and {remedy}")
    for name, expected in artifact.files.items():
        file = folder / name
        if not file.is_file():
            raise ValueError(f"{file} is missing; delete {folder} and {remedy}")
        if check_files and digest_file(file) != expected:
            raise ValueError(
                f"{file} is damaged: its SHA-256 is not the recorded one; delete {folder} and {remedy}"
            )
    for name, expected in artifact.made_from.items():
        parent = folder.parent / name / RECORD
        if parent.is_file():
            try:
                found = json.loads(parent.read_text(encoding="utf-8"))["digest"]
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(
                    f"{parent} is damaged ({error}); delete {parent.parent} and {remedy}"
                ) from error
            if found != expected:
                raise ValueError(
                    f"{folder} was made from {name} {expected[:12]}, but {parent.parent} is {found[:12]}; {remedy}"
                )
    return artifact
