"""Failing writes: a small C library, preloaded into every process of a run, and the file that controls it.

The library counts the bytes that all processes of a run write below its project. Past a limit the disk is
full (every write fails from then on) or faulty (one write, or one fsync, fails). `shim.c` explains how this
works, and which writes it does not see.
"""

import mmap
import shutil
import struct
import subprocess
from pathlib import Path
from typing import Self

SOURCE = Path(__file__).with_name("shim.c")
COUNT_ONLY, FULL_DISK, FAILED_WRITE, FAILED_FSYNC = range(4)
_HEAD = struct.Struct("=qqii")
_SIZE = _HEAD.size + 1024
_UNLIMITED = 2**62


def build(folder: Path) -> Path | None:
    """Compile the library into a folder; returns its file, or None if this machine has no C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    library = folder / "shim.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class Control:
    """The state that the processes of one run share with the harness.

    Args:
        file: File for the state; overwritten.
        library: The library from `build`.
        under: Absolute folder; writes elsewhere succeed and are not counted.
    """

    def __init__(self, file: Path, library: Path, under: Path) -> None:
        file.write_bytes(_HEAD.pack(0, _UNLIMITED, COUNT_ONLY, 0).ljust(_SIZE, b"\0"))
        self.environment = {"LD_PRELOAD": str(library), "FAULT_CONTROL": str(file), "FAULT_UNDER": str(under)}
        with file.open("r+b") as stream:
            self._shared = mmap.mmap(stream.fileno(), _SIZE)

    def arm(self, kind: int, *, limit: int) -> None:
        """Let the fault strike as soon as more than `limit` bytes have been written since the start."""
        self._shared[8:20] = struct.pack("=qi", limit, kind)

    @property
    def written(self) -> int:
        """Bytes that all processes have written so far."""
        return int(_HEAD.unpack_from(self._shared)[0])

    @property
    def struck(self) -> str:
        """The file that the fault hit first, and the process; empty if the fault has not struck."""
        text = self._shared[_HEAD.size :].split(b"\0")[0].decode(errors="replace")
        return text if _HEAD.unpack_from(self._shared)[3] else ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._shared.close()
