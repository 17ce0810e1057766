"""The checks before a run, and the cleanup after killed runs."""

import errno
import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from temper import artifacts
from temper.ops.pipeline import cleanup, preflight
from temper.ops.project import MARK, Project
from temper.ops.system import project_lock


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project.at(tmp_path)


def test_a_full_disk_is_said_before_anything_starts(project: Project):
    with pytest.raises(ValueError, match=r"GiB are free .* a run needs .*free some"):
        preflight.check_space(project, least_bytes=1 << 60)
    preflight.check_space(project, least_bytes=0)


def test_a_folder_that_cannot_be_written(project: Project):
    # Not even root can create files there, so the test does not depend on the user who runs it.
    (project.folder / "artifacts").symlink_to("/sys/kernel")
    with pytest.raises(ValueError, match=r"cannot write to .*artifacts: .*no permission"):
        preflight.check_writable(project)


def test_a_file_in_the_place_of_a_folder(project: Project):
    (project.folder / "reports").write_text("")
    with pytest.raises(ValueError, match=r"cannot write to .*reports"):
        preflight.check_writable(project)


def test_no_space_has_its_own_way_out():
    assert "free some" in artifacts.explain(OSError(errno.ENOSPC, "No space left on device"))


def test_a_file_where_a_folder_belongs_has_its_way_out(tmp_path: Path):
    (tmp_path / "lock").mkdir()
    with pytest.raises(OSError) as raised:
        (tmp_path / "lock").open("w")
    assert f"Is a directory at {tmp_path}/lock: something else is" in artifacts.explain(raised.value)


def test_two_runs_do_not_share_a_folder(project: Project):
    holder = (
        "import fcntl, sys, time; f = open(sys.argv[1], 'a+'); fcntl.flock(f, fcntl.LOCK_EX); "
        "print('held', flush=True); time.sleep(60)"
    )
    project.hidden.mkdir()
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(project.hidden / "lock")], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == "held\n"
        with pytest.raises(ValueError, match="another run is working"), project_lock.exclusive(project):
            pass
        other.kill()
    with project_lock.exclusive(project):  # the kernel released the lock when the process ended
        assert (project.hidden / "lock").read_text() == str(os.getpid())


def test_the_lock_is_the_kernels(project: Project):
    with (
        project_lock.exclusive(project),
        (project.hidden / "lock").open() as stream,
        pytest.raises(BlockingIOError),
    ):
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_orphans_of_this_project_are_ended_and_no_others(project: Project, tmp_path: Path):
    (project.folder / ".dvc").mkdir(exist_ok=True)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    mine = subprocess.Popen(sleep, env={**os.environ, MARK: str(project.folder)})
    other = subprocess.Popen(sleep, env={**os.environ, MARK: str(tmp_path / "other")})
    try:
        time.sleep(0.2)
        assert cleanup.end_orphans(project) == [
            f"ended process {mine.pid}, left over from a run that was killed"
        ]
        mine.wait(5)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        mine.kill()
        mine.wait()
