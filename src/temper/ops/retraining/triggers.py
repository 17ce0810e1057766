"""Decides whether to train again: compares the current data, code and parameters with the last training.

The reason is given in one line.
"""

import time
from dataclasses import dataclass, field, replace

from temper.config import Params
from temper.ops.pipeline import plan
from temper.ops.project import Project
from temper.ops.retraining import drift_check, last_training
from temper.ops.retraining.last_training import Differences
from temper.retrain_params import RetrainParams


@dataclass(frozen=True)
class Changes:
    """The facts on which the decision is based."""

    stale: tuple[str, ...]
    """Stages that would run because they never ran or their code or parameters changed."""
    since_h: float | None
    """Hours since the last training; None if nothing was trained yet."""
    data: Differences = field(default_factory=Differences)
    """How the examples differ from those of the last training."""
    alarms: tuple[str, ...] = ()
    """Names of the drift tests that raised an alarm."""


@dataclass(frozen=True)
class Decision:
    """Whether to train, and the reason as one line."""

    train: bool
    why: str


def decide(news: Changes, params: RetrainParams, *, force: bool = False) -> Decision:
    """Apply the rules; the first one that fits decides.

    Args:
        news: The facts.
        params: The thresholds.
        force: A user asked for the training, so only unchanged inputs prevent it.
    """
    if news.since_h is None:
        return Decision(True, "nothing was trained yet")
    data = news.data
    changed = bool(data.new or data.gone or data.relabelled or data.replaced or (force and data.other))
    drifted = f"drift in {', '.join(news.alarms)}" if news.alarms else ""
    advice = f" ({drifted}: for information only)" if drifted and not params.drift_trains else ""
    if not changed and not news.stale:
        return Decision(
            False, f"nothing new: data, code and parameters are the same as in the last training{advice}"
        )
    if force:
        return Decision(True, _describe(news))
    if news.since_h < params.cooldown_h:
        return Decision(
            False,
            f"{_describe(news)}, but the last training was {news.since_h:.1f} h ago and "
            f"retrain.cooldown_h = {params.cooldown_h:g}{advice}",
        )
    if news.stale or data.relabelled:
        return Decision(True, _describe(news))
    if drifted and params.drift_trains:
        return Decision(True, f"{_describe(news)}, {drifted}")
    if data.new + data.replaced < params.min_new:
        return Decision(False, f"{_describe(news)}, fewer than retrain.min_new = {params.min_new}{advice}")
    return Decision(True, f"{_describe(news)}{advice}")


def _describe(news: Changes) -> str:
    data = news.data
    told = data.new or data.replaced or data.relabelled or data.gone or not news.stale
    parts = [str(data)] if told else []
    parts += [f"changed stages: {', '.join(news.stale)}"] if news.stale else []
    return ", ".join(parts)


def collect(project: Project, params: Params, steps: tuple[plan.Step, ...]) -> Changes:
    """Return what changed since the last training; `prepare` must be up to date.

    Args:
        project: Project whose data are examined.
        params: Parameters of the project.
        steps: Plan of a run, made after `prepare` ran.
    """
    found = last_training.compare(project)
    if found is None:
        return Changes((), None)
    last, data = found
    # Stages that are stale only because of their data are left out: the digests show changes of the data.
    stale = tuple(
        step.name
        for step in steps
        if step.runs and any(reason.startswith(("params ", "code ", "never ran")) for reason in step.reasons)
    )
    return Changes(stale, (time.time() - last) / 3600, data)


def check_reasons(project: Project, params: Params, steps: tuple[plan.Step, ...], *, force: bool) -> Decision:
    """Decide whether there is a reason to train, and print the result of the drift check.

    Args:
        project: Project whose data are examined.
        params: Parameters of the project.
        steps: Plan of a run, made after `prepare` ran.
        force: A user asked for the training.
    """
    drift = drift_check.check(project, params)
    print(drift_check.format_result(drift), flush=True)
    found = replace(
        collect(project, params, steps), alarms=() if isinstance(drift, str) else tuple(drift["alarms"])
    )
    return decide(found, params.retrain, force=force)
