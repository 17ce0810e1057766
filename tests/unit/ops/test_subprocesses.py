"""The output of a command is shown live, and nothing that it started outlives an interruption."""

import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest

from temper.ops.system import subprocesses

ROOT = Path(__file__).parents[3]


def run(code: str, *hide: str) -> subprocesses.Ended:
    return subprocesses.run([sys.executable, "-c", code], cwd=ROOT, env=os.environ, hide=hide)


def test_output_is_passed_on_and_kept(capfd: pytest.CaptureFixture[str]):
    ended = run("import sys; print('one'); print('two', file=sys.stderr); sys.exit(3)")
    assert (ended.code, ended.out, ended.err) == (3, ("one",), ("two",))
    assert capfd.readouterr() == ("one\n", "two\n")


def test_hidden_lines_are_kept_but_not_shown(capfd: pytest.CaptureFixture[str]):
    ended = run(
        "print('Running stage x'); print('Run fast'); print('end', end='')", "Running stage '", "Running"
    )
    assert ended.out == ("Running stage x", "Run fast")
    assert capfd.readouterr().out == "Run fast\nend"


def test_a_line_arrives_in_pieces(capfd: pytest.CaptureFixture[str]):
    code = (
        "import sys, time\nfor piece in ('Runn', 'ing x\\n', 'Ru', 'le\\n'):\n"
        "  sys.stdout.write(piece); sys.stdout.flush(); time.sleep(.1)"
    )
    run(code, "Running")
    assert capfd.readouterr().out == "Rule\n"


def test_what_holds_the_pipe_does_not_hold_us():
    started = time.monotonic()
    run("import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(8)'])")
    assert time.monotonic() - started < 6


def test_colours_do_not_hide_a_message():
    assert run(r"import sys; print('\x1b[31mERROR\x1b[39m: no', file=sys.stderr)").err == ("ERROR: no",)


def test_a_terminal_stays_a_terminal():
    """Progress bars are drawn only on a terminal."""
    code = (
        "import os, sys; from temper.ops.system import subprocesses; from pathlib import Path\n"
        "subprocesses.run([sys.executable, '-c', 'import sys; print(sys.stderr.isatty(), file=sys.stderr)'],"
        " cwd=Path(), env=os.environ)"
    )
    ours, theirs = pty.openpty()
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, stderr=theirs, check=True)
    assert b"True" in os.read(ours, 100)
    os.close(ours)
    os.close(theirs)


def test_an_interruption_ends_the_whole_tree(tmp_path: Path):
    """A grandchild with its own session, as torchrun starts them, is ended, too."""
    grandchild = "import time, pathlib, os; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
    child = (
        "import subprocess, sys, time; "
        f"subprocess.Popen([sys.executable, '-c', {grandchild!r}], start_new_session=True); time.sleep(60)"
    )

    def interrupt() -> None:
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        subprocesses.run([sys.executable, "-c", child], cwd=tmp_path, env=os.environ)
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))
