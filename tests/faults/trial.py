"""One trial: disturb a run as planned, run the same command again, and compare with the reference."""

import os
import shutil
import time
import traceback
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from temper.ops.project import Project
from tests.faults import damage, shim
from tests.faults.plans import Plan
from tests.faults.processes import kill_all, left_behind, living, roles
from tests.faults.reference import Extent, Reference, start_from
from tests.faults.runs import Run, repair
from tests.faults.verdict import check

RECOVERED, REPAIRED, FAILED, MISSED, UNTRIED = (
    "recovered",
    "refused and repaired",
    "FAILED",
    "missed",
    "not tried",
)
_MOST_ATTEMPTS, _MOST_REPAIRS = 3, 2
_BURST_BYTES = 1 << 16


@dataclass
class Bench:
    """State that all trials share."""

    work: Path
    references: dict[int, Reference]
    """Number of ranks -> undisturbed project."""
    library: Path | None
    """The shim's library; None if it cannot be compiled."""
    keep: bool = False
    """Keep the folders of successful trials too."""


@dataclass
class Result:
    """The result of a trial."""

    plan: Plan
    outcome: str
    story: list[str]
    """What the fault hit and when, and what happened then."""
    wrong: list[str]
    seconds: float
    folder: Path


@dataclass
class _Trial:
    plan: Plan
    bench: Bench
    project: Project
    logs: Path
    extent: Extent
    """Expected seconds and bytes of the disturbed run."""
    story: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    runs: int = 0
    repaired: bool = False
    damaged: str = ""

    def start(self, environment: dict[str, str] | None = None) -> Run:
        self.runs += 1
        return Run(self.project, self.logs / f"run-{self.runs}", environment)

    def ended(self, run: Run, *, killed: bool = False) -> None:
        """Check a run that has just ended, whether the harness killed it or not."""
        name = f"run {self.runs}"
        code = run.wait()
        if code is None:
            self.wrong.append(f"{name} hung and was killed after {run.seconds:.0f} s")
        elif not killed:
            self.wrong += [f"{name} {fault}" for fault in run.faults()]
            self.story.append(f"{name} ended with {code} after {run.seconds:.0f} s")
        if left := left_behind(self.project):
            self.wrong.append(f"{name} left behind: {', '.join(left)}")

    def strike(self) -> bool:
        """Disturb a run; returns False if it ended before the fault could strike."""
        if self.plan.kind == "damage":
            return self._damage()
        if self.plan.kind == "write":
            return self._fail_write()
        run = self.start()
        if not run.sleep_until(self.plan.instant * self.extent.seconds):
            return self._over(run)
        return self._kill(
            run, "instant", only="server" if self.plan.kind == "server" else None
        ) or self._over(run)

    def _over(self, run: Run, written: int = 0) -> bool:
        """Store the extent of a run that ended before the fault could strike."""
        self.ended(run)
        if run.process.returncode:
            self.wrong.append(
                f"run {self.runs} failed without a fault: {run.paragraph() or run.errors[-300:]}"
            )
        self.extent = Extent(min(run.seconds, self.extent.seconds) * 0.9, written or self.extent.bytes)
        return False

    def _kill(self, run: Run, what: str, *, only: str | None = None) -> bool:
        """Kill one process of a run; every role has the same chance."""
        generator = self.plan.generator(what)
        while run.process.poll() is None:
            found = roles(living(self.project, run.process.pid))
            if only is not None and only not in found:
                time.sleep(0.1)
                continue
            name = only or generator.choice(sorted(found))
            victim = generator.choice(found[name])
            try:
                victim.kill()
            except psutil.NoSuchProcess:
                continue
            self.story.append(f"killed {name} at {run.seconds:.1f} s of run {self.runs}")
            self.ended(run, killed=victim.pid == run.process.pid)
            return True
        return False

    def _fail_write(self) -> bool:
        assert self.bench.library is not None
        plan = self.plan
        with shim.Control(self.logs / "control", self.bench.library, self.project.folder) as control:
            if plan.by == "bytes":
                control.arm(plan.write_kind, limit=int(plan.instant * self.extent.bytes))
            run = self.start(control.environment)
            if plan.by == "time":
                if not run.sleep_until(plan.instant * self.extent.seconds):
                    return self._over(run, control.written)
                control.arm(
                    plan.write_kind,
                    limit=control.written + self.plan.generator("burst").randrange(_BURST_BYTES),
                )
            self.ended(run)
            if not control.struck:
                return self._over(run, control.written)
            self.story.append(f"{plan.how}: {control.struck.replace(f'{self.project.folder}/', '')}")
        return True

    def _damage(self) -> bool:
        if self.plan.by == "killed":
            run = self.start()
            if not run.sleep_until(self.plan.instant * self.extent.seconds):
                return self._over(run)
            kill_all(self.project, run.process.pid)
            self.story.append(f"killed everything at {run.seconds:.1f} s of run {self.runs}")
            self.ended(run, killed=True)
        file, how = damage.spoil(self.project, self.plan.how, self.plan.generator("file"))
        self.damaged = str(file)
        self.story.append(f"{file}: {how}")
        return True

    def repair(self) -> None:
        """Run the same command again until it succeeds; follow the errors in between literally."""
        if self.plan.how == "twice":
            run = self.start()
            if run.sleep_until(self.plan.second * self.extent.seconds):
                self._kill(run, "second")
            else:
                self.ended(run)
        for repairs in range(_MOST_REPAIRS + 1):
            run = self.start()
            self.ended(run)
            if run.process.returncode == 0:
                reference = self.bench.references[self.plan.start.ranks]
                self.wrong += check(self.project, reference.facts, damaged=self.damaged)
                return
            if not run.paragraph() or repairs == _MOST_REPAIRS:
                break
            done, wrong = repair(run)
            self.story.append(
                f"run {self.runs} refused: {run.paragraph()}; done: {', '.join(done) or 'nothing'}"
            )
            self.wrong += (
                wrong if done or wrong else [f"run {self.runs} refuses and names no command that helps"]
            )
            self.repaired = True
        self.wrong.append(f"run {self.runs} did not succeed: {run.paragraph() or run.errors[-300:]}")


def run_trial(plan: Plan, bench: Bench) -> Result:
    """Run one trial; if the run ends before the fault strikes, try again with an earlier fault."""
    began, folder, logs = (
        time.monotonic(),
        bench.work / f"trial-{plan.seed}",
        bench.work / "logs" / f"trial-{plan.seed}",
    )
    if plan.kind == "write" and bench.library is None:
        return Result(plan, UNTRIED, ["no C compiler on this machine"], [], 0.0, folder)
    reference = bench.references[plan.start.ranks]
    extent = reference.extent(plan.start)
    for _ in range(_MOST_ATTEMPTS):
        shutil.rmtree(logs, ignore_errors=True)
        logs.mkdir(parents=True)
        trial = _Trial(plan, bench, start_from(reference, folder, plan.start), logs, extent)
        struck = True
        try:
            struck = trial.strike()
            if struck:
                trial.repair()
        except Exception:  # An error of the harness in one trial must not end the campaign.
            trial.wrong.append(f"the harness failed: {traceback.format_exc()}")
        finally:
            kill_all(trial.project)
        if struck or trial.wrong:
            break
        extent = trial.extent
    outcome = FAILED if trial.wrong else MISSED if not struck else REPAIRED if trial.repaired else RECOVERED
    if outcome != FAILED and not bench.keep:
        shutil.rmtree(folder)
        shutil.rmtree(logs)
    return Result(plan, outcome, trial.story, trial.wrong, time.monotonic() - began, folder)


def pin(job: int, jobs: int) -> None:
    """Give this thread and its child processes an equal share of the cores.

    This makes the number of training threads the same in every trial.
    """
    cores = sorted(os.sched_getaffinity(0))
    share = max(1, len(cores) // jobs)
    first = job * share % len(cores)
    os.sched_setaffinity(0, cores[first : first + share])
