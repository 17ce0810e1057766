"""Artifacts, which stages pass to each other: a folder of files plus one frozen record, written last.

`artifact.json` records which stage made the folder, from which inputs, and the digest of every file in it. It
is written under a temporary name and renamed, so a folder without it is unfinished. `load` trusts nothing: it
checks the stage, the digests of the files, and that the inputs from which the artifact was made are those
that are there now.
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

from temper.make_command import make_command

RECORD = "artifact.json"
WEIGHTS = "network.safetensors"
DEPLOYED = "quantized"
"""Name of the candidate that is deployed and registered. The other candidates are its references."""
"""File in which a training stage stores its network."""
STAGE_OF_CHECKPOINTS = "stage"
"""File in a folder of checkpoints that names their stage."""
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class Artifact:
    """The output of a stage."""

    stage: str
    digest: str
    """Digest of the stage's name, facts and file digests: equal contents have equal digests."""
    made_from: Mapping[str, str]
    """Input stage -> digest of its artifact."""
    params: str
    """Digest of the parameters with which it was made."""
    code: str
    """Digest of the source files with which it was made."""
    files: Mapping[str, str]
    """Relative path -> SHA-256."""
    facts: Mapping[str, Any]
    """Facts that the stage recorded: JSON values only."""
    folder: Path = field(default=Path(), compare=False)

    def path(self, name: str) -> Path:
        """Return the path of one of the artifact's files.

        Raises:
            ValueError: If the artifact has no such file.
        """
        if name not in self.files:
            raise ValueError(
                f"{self.folder} holds no file {name!r}; it holds {', '.join(sorted(self.files))}"
            )
        return self.folder / name


def digest_file(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            sha.update(chunk)
    return sha.hexdigest()


def digest_json(value: Any) -> str:
    """Return the SHA-256 of a JSON value, independent of the order of its keys."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def digest_files(paths: Iterable[Path], root: Path) -> str:
    """Return the SHA-256 over names (relative to `root`) and contents of files."""
    return digest_json({path.relative_to(root).as_posix(): digest_file(path) for path in paths})


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader finds the old or the new content, never a part, even after a power cut.

    Raises:
        OSError: If the file cannot be written; names the file.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as stream:
            stream.write(content.encode() if isinstance(content, str) else content)
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
        flush(path.parent)
    except OSError as error:  # An error of writing, unlike one of opening, does not name the file.
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def forget_unfinished(folder: Path) -> None:
    """Remove the temporary files that killed calls of `write_atomically` left in a folder."""
    for part in folder.glob(".*"):
        part.unlink(missing_ok=True)


def write_sealed(path: Path, value: Any) -> None:
    """Write a JSON value and its digest, atomically."""
    write_atomically(path, json.dumps({"value": value, "digest": digest_json(value)}))


def read_sealed(path: Path) -> Any:
    """Read a value that `write_sealed` wrote.

    Raises:
        ValueError: If the file is missing or damaged.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        if found["digest"] != digest_json(found["value"]):
            raise ValueError("its digest does not match")
        return found["value"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{path} is damaged ({error}); run `{make_command('pipeline')}` again") from error


def flush(path: Path) -> None:
    """Make the kernel write a file, or the list of names in a folder, to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def explain(error: OSError) -> str:
    """Return an error of the file system as text with a way out."""
    where = f" at {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left on the disk{where}; free some and run the same command again"
    if error.errno in (errno.EISDIR, errno.ENOTDIR, errno.EEXIST):
        return (
            f"{error.strerror}{where}: something else is in the place of a file or folder of the pipeline; "
            "remove it and run the same command again"
        )
    if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
        return (
            f"no permission{where}: {error.strerror}; change the permissions (`ls -ld` shows the owner) and "
            "run the same command again"
        )
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
    """Move a sealed folder to its final place in one rename. The folder that was there is removed."""
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
        stage: Name of the stage that must have made the artifact.
        folder: Folder of the artifact.
        check_files: Whether to hash every file again. If False, it is only checked that the files exist.

    Raises:
        ValueError: If the artifact is missing, unfinished, of another stage, damaged, or made from inputs
            other than those beside it.
    """
    remedy = f"run `{make_command('pipeline')}`"
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
                    f"{folder} was made from {name} {expected[:12]}, but {parent.parent} is {found[:12]}; "
                    f"{remedy}"
                )
    return artifact
