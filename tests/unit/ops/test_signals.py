"""Signals that end a run, exceptions of MLflow and Prefect, owners of runs, and SQLite files."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest

from temper.ops.mlflow import model_versions
from temper.ops.prefect.flow_runner import explain_failures
from temper.ops.project import Project
from temper.ops.system import signals, sqlite, subprocesses
from temper.ops.system.process_identity import Owner

pytestmark = pytest.mark.filterwarnings("default")  # MLflow and Prefect raise warnings of their own


def test_what_mlflow_and_prefect_raise_becomes_a_paragraph(tmp_path: Path):
    from httpx import ConnectError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import OperationalError

    project = Project.at(tmp_path)
    with (
        pytest.raises(
            ValueError, match=r"mlflow\.db \(disk is full\); free .*space.*run the same command again"
        ),
        explain_failures(project),
    ):
        raise MlflowException("disk is full\nand a page of SQL")
    with (
        pytest.raises(ValueError, match=r"Prefect's server failed \(refused\); .*prefect-server\.log"),
        explain_failures(project),
    ):
        raise ConnectError("refused")
    with pytest.raises(ValueError, match=r"mlflow\.db \(.*disk I/O error\)"), explain_failures(project):
        raise OperationalError("ALTER TABLE", {}, sqlite3.OperationalError("disk I/O error"))
    with (
        pytest.raises(ValueError, match=r"Prefect's server failed \(Failed to reach API at"),
        explain_failures(project),
    ):
        raise RuntimeError("Failed to reach API at http://127.0.0.1:1/api/")
    for fault in (
        KeyError("a bug of temper's is not explained"),
        RuntimeError("likewise"),
        NotImplementedError("likewise"),
    ):
        with pytest.raises(type(fault)), explain_failures(project):
            raise fault


def test_an_owner_is_told_by_more_than_its_number(tmp_path: Path):
    me = Owner.me()
    assert Owner.read(str(me)) == me and not me.dead
    assert Owner.read(None) is None and Owner.read("a b c d") is None
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    other = Owner(me.host, me.boot, child.pid, me.started)
    assert other.dead, "another process has its number now"
    child.kill()
    child.wait()
    assert Owner(me.host, me.boot, child.pid, "1").dead


def test_a_leashed_process_ends_with_its_parent(tmp_path: Path):
    """It also ends if the parent is killed and cannot end it."""
    script = (
        "import subprocess, sys, time; sys.path.insert(0, sys.argv[1]); "
        "from temper.ops.system import subprocesses; "
        "child = subprocess.Popen(subprocesses.tied([sys.executable, '-c', 'import time; time.sleep(60)'])); "
        "print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, str(Path(__file__).parents[3])], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        child = int(parent.stdout.readline())
        time.sleep(1)
        parent.kill()
    until = time.monotonic() + 10
    while Path(f"/proc/{child}").exists() and time.monotonic() < until:
        time.sleep(0.1)
    assert not Path(f"/proc/{child}").exists()


def test_a_command_that_was_killed_leaves_no_children(tmp_path: Path):
    script = (
        "import os, signal, subprocess, sys; "
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'], start_new_session=True); "
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocesses.run(
        [sys.executable, "-c", script], cwd=tmp_path, env={**os.environ, "MINE": str(tmp_path)}
    )
    assert ended.code == -signal.SIGKILL
    assert subprocesses.marked("MINE", str(tmp_path)) == []


def test_a_second_signal_does_not_break_off_the_clearing_up():
    before = {each: signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signals.listen()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN, "nohup stays nohup"
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.1)
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def test_a_database_whose_writer_was_killed_is_not_called_damaged(tmp_path: Path):
    path, killed = tmp_path / "some.db", tmp_path / "killed.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA cache_size = 2")  # so that an open transaction reaches the file
        database.execute("CREATE TABLE words (word TEXT)")
        database.executemany("INSERT INTO words VALUES (?)", [("x" * 500,)] * 200)
        database.execute("BEGIN")
        database.execute("UPDATE words SET word = word || 'y'")
        for suffix in ("", "-journal"):
            shutil.copy(tmp_path / f"some.db{suffix}", tmp_path / f"killed.db{suffix}")
        database.execute("ROLLBACK")
    assert killed.read_bytes() != path.read_bytes()
    assert sqlite.damage(killed) is None
    with sqlite.reading(killed) as database:
        assert database.execute("SELECT DISTINCT word FROM words").fetchall() == [("x" * 500,)]


def test_a_database_that_somebody_holds_is_not_called_damaged(tmp_path: Path, monkeypatch):
    path = tmp_path / "some.db"
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("CREATE TABLE words (word TEXT)")
        database.execute("BEGIN EXCLUSIVE")
        monkeypatch.setattr(sqlite, "TIMEOUT_S", 0.1)
        with pytest.raises(OSError, match=f"could not read {path}: database is locked"):
            sqlite.damage(path)


def test_databases_are_checked_kept_and_put_aside(tmp_path: Path):
    path, kept = tmp_path / "some.db", tmp_path / "kept.db"
    assert sqlite.damage(path) is None
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE words (word TEXT)")
        database.executemany("INSERT INTO words VALUES (?)", [("x" * 500,)] * 200)
    assert sqlite.damage(path) is None
    sqlite.copy(path, kept)
    whole = path.read_bytes()
    path.write_bytes(whole[:9000] + bytes(4096) + whole[13096:])
    assert sqlite.damage(path)
    path.write_bytes(whole[:5000])
    assert sqlite.damage(path)
    with pytest.raises(OSError, match=rf"could not copy {path} to {kept}: "):
        sqlite.copy(path, kept)
    aside = sqlite.move_away(path)
    assert not path.exists() and aside.read_bytes() == whole[:5000]
    assert sqlite.damage(kept) is None


def test_nothing_stands_as_running_where_there_are_no_databases(tmp_path: Path):
    project = Project.at(tmp_path)
    assert not model_versions.unclosed(project, "pipeline")
    project.prefect_home.mkdir(parents=True)
    (project.prefect_home / "prefect.db").write_bytes(b"")
    assert model_versions.unclosed(project, "pipeline"), (
        "an unreadable database is opened and thereby repaired"
    )
