"""Is there reason to train again? Decided from what was trained on last and what lies there now, and said in a line.

What was trained on last is kept in `.temper/retrain.json`: the digests of its training images, so that it can be told how many are new.
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from temper import artifacts
from temper.config import Params, RetrainParams
from temper.ops.pipeline import plan
from temper.ops.project import Project
from temper.ops.retraining import drift_check

FILE = "retrain.json"


@dataclass(frozen=True)
class Changes:
    """What is known when it is decided."""

    stale: tuple[str, ...]
    """Stages that would run, and why, the one that reads the data left out."""
    new: int
    """Examples in today's training split that the last training did not see."""
    gone: int
    """Examples that it saw and that are not there any more."""
    since_h: float | None
    """Hours since the last training; None if there was none."""
    alarms: tuple[str, ...] = ()
    """What the look at drift found."""


@dataclass(frozen=True)
class Decision:
    """Whether to train, and why, in a line."""

    train: bool
    why: str


def decide(news: Changes, params: RetrainParams, *, force: bool = False) -> Decision:
    """The rules, in the order in which they are asked.

    Args:
        news: What is known.
        params: Thresholds.
        force: A person asked for it: only unchanged inputs hold it back.
    """
    if news.since_h is None:
        return Decision(True, "nothing was trained yet")
    changed = bool(news.new or news.gone)
    drifted = f"drift in {', '.join(news.alarms)}" if news.alarms else ""
    advice = f" ({drifted}: advice only)" if drifted and not params.drift_trains else ""
    if not changed and not news.stale:
        return Decision(
            False, f"nothing new: data, code and parameters are those of the last training{advice}"
        )
    if force:
        return Decision(True, _say(news))
    if news.since_h < params.cooldown_h:
        return Decision(
            False,
            f"{_say(news)}, but the last training was {news.since_h:.1f} h ago and retrain.cooldown_h is {params.cooldown_h:g}{advice}",
        )
    if news.stale:
        return Decision(True, _say(news))
    if drifted and params.drift_trains:
        return Decision(True, f"{_say(news)}, {drifted}")
    if news.new < params.min_new:
        return Decision(False, f"{_say(news)}, fewer than retrain.min_new = {params.min_new}{advice}")
    return Decision(True, f"{_say(news)}{advice}")


def _say(news: Changes) -> str:
    parts = [f"{news.new} new examples"] if news.new or not news.stale else []
    parts += [f"{news.gone} gone"] if news.gone else []
    parts += [f"{', '.join(news.stale)} changed"] if news.stale else []
    return ", ".join(parts)


def record_training(project: Project) -> None:
    """Remember what the artifacts were trained on, once their model is registered."""
    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    trained = sorted(set(_digests(prepared.path("rows.parquet"), "train")))
    artifacts.write_sealed(
        project.hidden / FILE, {"prepare": prepared.digest, "time": time.time(), "trained": trained}
    )


def collect(project: Project, params: Params, steps: tuple[plan.Step, ...]) -> Changes:
    """What is known now; `prepare` must be up to date.

    Args:
        project: Whose data they are.
        params: Of the project.
        steps: The plan of a run, made after `prepare` ran.
    """
    try:
        last: dict[str, Any] = artifacts.read_sealed(project.hidden / FILE)
    except ValueError:
        return Changes((), 0, 0, None)
    prepared = artifacts.load("prepare", project.artifacts / "prepare", check_files=False)
    now = (
        set(_digests(prepared.path("rows.parquet"), "train"))
        if prepared.digest != last["prepare"]
        else set(last["trained"])
    )
    before = set(last["trained"])
    # A stage that is stale through its data alone says nothing beyond what the digests say.
    stale = tuple(
        step.name
        for step in steps
        if step.runs and any(reason.startswith(("params ", "code ", "never ran")) for reason in step.reasons)
    )
    return Changes(stale, len(now - before), len(before - now), (time.time() - last["time"]) / 3600)


def check_reasons(project: Project, params: Params, steps: tuple[plan.Step, ...], *, force: bool) -> Decision:
    """Decide whether there is a reason to train, drift included, and print what drift says.

    Args:
        project: Whose data they are.
        params: Of the project.
        steps: The plan of a run, made after `prepare` ran.
        force: A person asked for it.
    """
    drift = drift_check.check(project, params)
    print(drift_check.format_result(drift), flush=True)
    found = replace(
        collect(project, params, steps), alarms=() if isinstance(drift, str) else tuple(drift["alarms"])
    )
    return decide(found, params.retrain, force=force)


def _digests(table: Path, split: str) -> list[str]:
    import pyarrow.parquet as pq

    found = pq.ParquetFile(table).read(columns=["split", "digest"])
    pairs = zip(found["split"].to_pylist(), found["digest"].to_pylist(), strict=True)
    return [digest for name, digest in pairs if name == split]
