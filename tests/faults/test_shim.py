"""The shim makes writes of every kind of program fail: a fault that cannot strike proves nothing."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import shim

WRITERS = {
    "python": (
        "open(path, 'wb', buffering=0).write(bytes(1000)) == 1000 "
        "or open(path, 'ab', buffering=0).write(b'x')"
    ),
    "sqlite": "import sqlite3; c = sqlite3.connect(path); c.execute('CREATE TABLE t (x)'); c.commit()",
    "copy": "import shutil; shutil.copyfile(sys.executable, path)",
    "safetensors": "import numpy, safetensors.numpy as s; s.save_file({'x': numpy.zeros(1000)}, path)",
    "numpy": "import numpy; numpy.zeros(1000).tofile(path)",
}


@pytest.fixture
def library(tmp_path: Path) -> Path:
    built = shim.build(tmp_path)
    if built is None:
        pytest.skip("no C compiler on this machine: faults of kind `write` cannot be tried")
    return built


def write(control: shim.Control, code: str, path: Path) -> str:
    """Run a line of Python that writes a file; returns the last line of its output."""
    script = f"import sys; path = {str(path)!r}; {code}; print('fine')"
    done = subprocess.run(
        [sys.executable, "-c", script], env=control.environment, capture_output=True, text=True, check=False
    )
    return (done.stdout + done.stderr).strip().splitlines()[-1]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_full_disk_is_full_for_every_writer(library: Path, tmp_path: Path, writer: str):
    folder = tmp_path / "project"
    folder.mkdir()
    with shim.Control(tmp_path / "control", library, folder) as control:
        control.arm(shim.FULL_DISK, limit=100)
        output = write(control, WRITERS[writer], folder / "file")
        assert (
            "No space left" in output
            or "disk is full" in output
            or "disk I/O error" in output
            or "requested" in output
        ), output
        assert str(folder) in control.struck
        assert sum(file.stat().st_size for file in folder.iterdir()) <= 100
        assert write(control, WRITERS[writer], tmp_path / "elsewhere") == "fine"
        assert write(control, WRITERS["python"], folder / "file") != "fine"  # the disk stays full


def test_a_failed_write_fails_once(library: Path, tmp_path: Path):
    with shim.Control(tmp_path / "control", library, tmp_path) as control:
        control.arm(shim.FAILED_WRITE, limit=10)
        assert "Input/output error" in write(control, WRITERS["python"], tmp_path / "file")
        assert write(control, WRITERS["python"], tmp_path / "file") == "fine"


def test_a_failed_fsync(library: Path, tmp_path: Path):
    with shim.Control(tmp_path / "control", library, tmp_path) as control:
        control.arm(shim.FAILED_FSYNC, limit=10)
        assert write(control, WRITERS["python"], tmp_path / "file") == "fine"
        assert "disk I/O error" in write(control, WRITERS["sqlite"], tmp_path / "database")


def test_without_a_fault_bytes_are_counted(library: Path, tmp_path: Path):
    with shim.Control(tmp_path / "control", library, tmp_path) as control:
        assert write(control, WRITERS["python"], tmp_path / "file") == "fine"
        assert (control.written, control.struck) == (1000, "")


def test_a_copy_counts_as_what_it_copies(library: Path, tmp_path: Path):
    (tmp_path / "small").write_bytes(bytes(10))
    with shim.Control(tmp_path / "control", library, tmp_path) as control:
        assert (
            write(
                control,
                f"import shutil; shutil.copyfile({str(tmp_path / 'small')!r}, path)",
                tmp_path / "file",
            )
            == "fine"
        )
        assert (control.written, control.struck) == (10, "")
