"""`make faults N=200`: disturb small pipelines; the same command must always end with the same model.

Each trial copies a small finished project and removes something, so that a part of the pipeline must run. It
disturbs that run with a fault (a killed process, a failing write, a damaged file, a dead Prefect server) and
then runs the same command again. That run must end with the digests of the undisturbed run, or refuse with an
error that names the command that repairs the project. A seed determines its trial completely.
"""

import argparse
import os
import queue
import shutil
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from itertools import count, islice
from pathlib import Path

from temper.ops.project import Project
from tests.faults import report, shim
from tests.faults.plans import KINDS, Plan, draw
from tests.faults.processes import kill_all
from tests.faults.reference import Reference, make_reference
from tests.faults.trial import FAILED, RECOVERED, REPAIRED, UNTRIED, Bench, Result, pin, run_trial


def main(arguments: list[str] | None = None) -> int:
    """Run trials; returns 0 only if every trial succeeded or could not be tried."""
    options = _parse(arguments)
    plans = list(
        islice(
            (plan for plan in map(draw, count(options.seed)) if options.kind in (None, plan.kind)),
            options.trials,
        )
    )
    if options.list:
        print("\n".join(f"{plan.seed} | {plan}" for plan in plans))
        return 0
    work = Path(tempfile.mkdtemp(prefix="temper-faults-", dir=options.work)).resolve()
    began = time.monotonic()
    signal.signal(signal.SIGINT, lambda *_: _abandon(work))
    signal.signal(signal.SIGTERM, lambda *_: _abandon(work))
    print(f"{len(plans)} trials from seed {options.seed} in {work}; undisturbed runs first", flush=True)
    library = shim.build(work)
    bench = Bench(work, _references(work, plans, options.jobs, library), library, keep=options.keep)
    if bench.library is None:
        print("no C compiler: faults of kind `write` are skipped and counted as not tried", flush=True)
    results = _campaign(bench, plans, options.jobs)
    text = report.page(results, (time.monotonic() - began) / 60)
    options.log.write_text(text, encoding="utf-8")
    print(f"\n{report.counts(results)}\nlog: {options.log}")
    good = all(result.outcome in (RECOVERED, REPAIRED, UNTRIED) for result in results)
    if all(result.outcome != FAILED for result in results) and not options.keep:
        shutil.rmtree(work)
    return 0 if good else 1


def _campaign(bench: Bench, plans: list[Plan], jobs: int) -> list[Result]:
    """Run every trial, `jobs` at a time, each on its own share of the cores."""
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    for job in range(jobs):
        numbers.put(job)
    results: list[Result] = []
    with ThreadPoolExecutor(jobs, initializer=lambda: pin(numbers.get(), jobs)) as pool:
        for future in as_completed([pool.submit(run_trial, plan, bench) for plan in plans]):
            result = future.result()
            results.append(result)
            print(f"[{len(results)}/{len(plans)}] seed {report.line(result)}", flush=True)
            if result.outcome == FAILED:
                print(report.reasons(result), flush=True)
    return results


def _references(work: Path, plans: list[Plan], jobs: int, library: Path | None) -> dict[int, Reference]:
    """Make the undisturbed projects for these trials, in parallel; returns number of ranks -> project."""
    numbers: queue.SimpleQueue[int] = queue.SimpleQueue()
    for job in range(jobs):
        numbers.put(job)
    ranks = sorted({1, *(plan.start.ranks for plan in plans)})
    with ThreadPoolExecutor(jobs, initializer=lambda: pin(numbers.get(), jobs)) as pool:
        made = pool.map(lambda each: make_reference(work, each, library), ranks)
        return dict(zip(ranks, made, strict=True))


def _abandon(work: Path) -> None:
    """After an interrupt, kill all processes of the trials and exit without waiting for them."""
    for folder in work.iterdir():
        if (folder / "params.yaml").is_file():
            kill_all(Project.at(folder))
    print(f"interrupted; the folder {work} was not deleted", file=sys.stderr, flush=True)
    os._exit(130)


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.faults", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--trials", type=int, default=20, help="number of trials (default: 20)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first trial; the others follow (default: 0)"
    )
    parser.add_argument(
        "--jobs",
        type=int,
        default=min(2, os.cpu_count() or 1),
        help="trials at a time (default: 2, or 1 on one core)",
    )
    parser.add_argument("--kind", choices=[*KINDS], help="only trials with this kind of fault")
    parser.add_argument("--work", type=Path, help="folder for the trials (default: the temporary folder)")
    parser.add_argument(
        "--log",
        type=Path,
        default=Path("faults.md"),
        help="Markdown file for the results (default: faults.md)",
    )
    parser.add_argument("--keep", action="store_true", help="keep the folders of successful trials too")
    parser.add_argument("--list", action="store_true", help="only list the trials")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
