"""Files of published data sets: ways to get them are tried in order, and their contents are checked."""

import hashlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

T = TypeVar("T")
_ERRORS = ("E:", "ERROR:")
"""How apt-get and pip begin the lines that say what went wrong."""


class Way(NamedTuple):
    """A way to get the files."""

    what: str
    """Its name, for messages."""
    get: Callable[[Path], Path]
    """Takes an empty folder, and returns the folder that holds the files then. A ValueError or OSError means
    that there is no success this way."""


def fetch_files(name: str, ways: Sequence[Way], use: Callable[[Path], T], ways_out: str) -> T:
    """Return what `use` makes of the files of the first way that works.

    Args:
        name: Name of the data set.
        ways: Ways to get the files.
        use: Takes the folder with the files. A ValueError means that they are not the published ones.
        ways_out: What the user can do if no way works.

    Raises:
        ValueError: If no way works; lists all that was tried.
    """
    tried = []
    for way in ways:
        with tempfile.TemporaryDirectory(prefix="temper-") as scratch:
            try:
                return use(way.get(Path(scratch)))
            except (ValueError, OSError) as error:
                tried.append(f"{way.what}: {error}")
                print(f"{name}: no success with {tried[-1]}", file=sys.stderr)
    listed = "; ".join(f"({number}) {text}" for number, text in enumerate(tried, 1))
    raise ValueError(f"{name} could not be fetched. Tried: {listed}. Ways out: {ways_out}")


def verify_files(
    folder: Path, digests: Mapping[str, str], read: Callable[[Path], bytes] = Path.read_bytes
) -> None:
    """Check that every file exists and has the published content.

    Args:
        folder: Folder with the files.
        digests: Name of a file -> SHA-256 of its content.
        read: Returns the content of a file.

    Raises:
        ValueError: If a file is missing, damaged or another one.
    """
    missing = [name for name in digests if not (folder / name).is_file()]
    if missing:
        raise ValueError(
            f"{folder} does not exist" if not folder.is_dir() else f"{folder} lacks {', '.join(missing)}"
        )
    for name, expected in digests.items():
        if hashlib.sha256(read(folder / name)).hexdigest() != expected:
            raise ValueError(f"{folder / name} is not the published file: the SHA-256 of its content differs")


def run_command(command: Sequence[str], folder: Path, patience_s: float) -> None:
    """Run a command in a folder.

    Raises:
        ValueError: If it fails or takes longer than `patience_s`; the message contains its errors.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=patience_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise ValueError(f"{command[0]} took longer than {patience_s:g} s") from error
    if done.returncode:
        lines = done.stderr.splitlines()
        errors = [line for line in lines if line.startswith(_ERRORS)] or lines
        raise ValueError(f"{command[0]} failed: {' '.join(errors[:2]) or f'status {done.returncode}'}")
