"""One run of the command under test, and the output that a user sees."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from temper.ops.project import Project
from tests.faults.processes import kill_all
from tests.project import ROOT

LIMIT_S = 900.0
"""A run that takes longer hangs."""
_CRASH = "Traceback (most recent call last)"


class Run:
    """A running `python -m flows pipeline` on a project.

    Args:
        project: The project.
        log: Its output goes to files with this name plus `.out` and `.err`, outside the project.
        environment: Variables that are added to those of this process.
    """

    def __init__(self, project: Project, log: Path, environment: Mapping[str, str] | None = None) -> None:
        log.parent.mkdir(parents=True, exist_ok=True)
        self.project, self._out, self._err = (
            project,
            log.with_name(f"{log.name}.out"),
            log.with_name(f"{log.name}.err"),
        )
        # DVC's cache of file states goes beside the logs, so that nothing of the trials stays on the machine.
        ours = {**os.environ, "OMP_NUM_THREADS": "1", "DVC_SITE_CACHE_DIR": str(log.parent / "dvc-site")}
        self.started = time.monotonic()
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "flows", "pipeline", "--project", str(project.folder)],
                cwd=ROOT,
                env={**ours, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                start_new_session=True,
            )

    @property
    def said(self) -> str:
        """Standard output so far."""
        return self._out.read_text(encoding="utf-8", errors="replace")

    @property
    def errors(self) -> str:
        """Standard error so far."""
        return self._err.read_text(encoding="utf-8", errors="replace")

    @property
    def seconds(self) -> float:
        """Seconds since its start."""
        return time.monotonic() - self.started

    def sleep_until(self, seconds: float) -> bool:
        """Wait until the run is `seconds` old; returns False if it has ended before."""
        while self.seconds < seconds:
            try:
                self.process.wait(timeout=min(0.1, max(0.001, seconds - self.seconds)))
                return False
            except subprocess.TimeoutExpired:
                continue
        return self.process.poll() is None

    def wait(self, limit_s: float = LIMIT_S) -> int | None:
        """Wait for its end; returns the exit status, or None if the run hung and was killed."""
        try:
            return self.process.wait(timeout=limit_s)
        except subprocess.TimeoutExpired:
            kill_all(self.project, self.process.pid)
            self.process.wait()
            return None

    def faults(self) -> list[str]:
        """Return what a user should not have seen in the output of a run that ended without being killed."""
        code, found = self.process.returncode, []
        if _CRASH in self.said + self.errors:
            last = [
                line
                for line in (self.said + self.errors).splitlines()
                if re.match(r"\w[\w.]*(Error|Exception|Exit|Full)\b", line)
            ]
            found.append(f"shows a traceback ({last[-1][:200] if last else 'with an unknown exception'})")
        if code not in (0, 130) and not self.paragraph():
            found.append(f"ends with status {code} and without an `error:` paragraph")
        return found

    def paragraph(self) -> str:
        """Return the last error paragraph; empty if there is none."""
        found = [line for line in self.errors.splitlines() if line.startswith("error: ")]
        return found[-1] if found else ""


def repair(run: Run) -> tuple[list[str], list[str]]:
    """Follow the last error literally: run every command that it names in backticks, but not the pipeline.

    Returns:
        The commands that were run, and what is wrong with the advice.
    """
    project, done, wrong = run.project, [], []
    for command in re.findall(r"`([^`]+)`", run.paragraph()):
        words = shlex.split(command)
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        if not words or shutil.which(words[0], path=path) is None:
            continue
        if words[:2] == ["make", "pipeline"]:
            done.append(command)
            continue
        if fault := _reach(words, project):
            wrong.append(f"the error's `{command}` {fault}")
            continue
        cwd = ROOT if words[0] == "make" else project.folder
        ended = subprocess.run(
            command,
            shell=True,
            cwd=cwd,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        done.append(command)
        if ended.returncode:
            wrong.append(f"the error's `{command}` fails: {(ended.stderr or ended.stdout).strip()[-300:]}")
    return done, wrong


def _reach(words: list[str], project: Project) -> str:
    """Return why a command must not be run, if it would act on something other than the project."""
    if words[0] == "make":
        folders = [word.removeprefix("PROJECT=") for word in words if word.startswith("PROJECT=")]
        if not folders or (ROOT / folders[-1]).resolve() != project.folder:
            return f"does not name the project {project.folder}"
    for word in words[1:]:
        if word.startswith("/") and not Path(word).resolve().is_relative_to(project.folder):
            return "names a path outside the project"
    return ""
