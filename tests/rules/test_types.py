"""The types are right, as `make check` finds out; among the tests, other tests can run beside it."""

import subprocess
import sys

import pytest

from tests.project import ROOT


@pytest.mark.slow
def test_mypy_has_nothing_to_say():
    command = [sys.executable, "-m", "mypy", "--no-color-output"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
