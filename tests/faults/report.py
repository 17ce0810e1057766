"""The results of a campaign of trials, as Markdown."""

import subprocess
from collections import Counter
from datetime import UTC, datetime

from tests.faults.plans import KINDS
from tests.faults.trial import FAILED, MISSED, RECOVERED, REPAIRED, UNTRIED, Result
from tests.project import ROOT

OUTCOMES = (RECOVERED, REPAIRED, FAILED, MISSED, UNTRIED)


def line(result: Result) -> str:
    """Return a trial in one line."""
    story = "; ".join(result.story)
    return f"{result.plan.seed} | {result.plan} | {story} | {result.outcome} | {result.seconds:.0f} s"


def reasons(result: Result) -> str:
    """Return what went wrong in a failed trial, and the command that repeats it."""
    again = f"make faults N=1 SEED={result.plan.seed}"
    return "\n".join(
        [f"  - {fault}" for fault in result.wrong] + [f"  folder: {result.folder}; repeat with `{again}`"]
    )


def counts(results: list[Result]) -> str:
    """Return a table with the number of trials by kind of fault and outcome."""
    found = Counter((result.plan.kind, result.outcome) for result in results)
    rows = [
        f"| fault | trials | {' | '.join(OUTCOMES)} | seconds per trial |",
        "|---" * (len(OUTCOMES) + 3) + "|",
    ]
    for kind in KINDS:
        mine = [result for result in results if result.plan.kind == kind]
        if mine:
            numbers = " | ".join(str(found[kind, outcome]) for outcome in OUTCOMES)
            seconds = sum(result.seconds for result in mine) / len(mine)
            rows.append(f"| {kind} | {len(mine)} | {numbers} | {seconds:.0f} |")
    numbers = " | ".join(str(sum(found[kind, outcome] for kind in KINDS)) for outcome in OUTCOMES)
    return "\n".join([*rows, f"| all | {len(results)} | {numbers} | |"])


def page(results: list[Result], minutes: float) -> str:
    """Return the page about the whole campaign."""
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    good = sum(result.outcome in (RECOVERED, REPAIRED) for result in results)
    tried = sum(result.outcome != UNTRIED for result in results)
    text = [
        f"# Faults: {good} of {tried}",
        "",
        f"{datetime.now(UTC):%Y-%m-%d}, commit {head.stdout.strip() or 'unknown'}, {minutes:.0f} minutes.",
        "",
        counts(results),
        "",
        "| seed | fault | start | what happened | outcome | time |",
        "|---|---|---|---|---|---|",
    ]
    for result in sorted(results, key=lambda result: result.plan.seed):
        text.append(f"| {line(result)} |")
        if result.outcome == FAILED:
            text.append(f"| | | | {'; '.join(result.wrong)} | | |".replace("\n", " "))
    return "\n".join(text) + "\n"
