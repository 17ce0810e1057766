"""The steps of the pipeline: run a stage through DVC, time the candidates, register the model.

Each function returns a message of one line, or raises `StepFailed`. Nothing here imports Prefect; `tasks`
makes Prefect tasks of these functions.
"""

import sys
import time

from temper.artifacts import DEPLOYED
from temper.ops import candidates, dvc
from temper.ops.candidates import CANDIDATES
from temper.ops.mlflow import model_versions
from temper.ops.pipeline import cleanup, plan, preflight, summary
from temper.ops.pipeline.plan import MEASURE, REGISTER
from temper.ops.pipeline.run import Run
from temper.ops.release import registration, split_history
from temper.ops.system import failure_messages, subprocesses
from temper.stages import BY_NAME

_RECORDED = {*CANDIDATES.values(), "evaluate", MEASURE}
"""Steps after which the candidates' runs in MLflow must be updated."""
SPLITS = "prepare"
"""The stage that splits the dataset."""


def run_stage(run: Run, name: str) -> str:
    """Run a stage through DVC, unless it is up to date."""
    stage, planned = BY_NAME[name], run.plan[name]
    if not planned.runs:
        return run.skip(name)
    run.record.begin()
    if name == SPLITS and (saved := split_history.save_splits(run.project, run.params)):
        run.report(name, saved)
    if SPLITS in stage.inputs:  # not only at the gate, after hours of training
        preflight.check_rules(run.project, run.params)
    run.report(name, f"{stage.summary} ({planned.reasons[0]})")
    with run.record.training(name):
        outcome = dvc.repro(run.project, name, force=name in run.force)
    if outcome.state == "failed":
        raise run.fail(outcome.message, printed=outcome.told)
    cleanup.forget_checkpoints(run.project, name)
    if outcome.state == "ran":
        run.ran.add(name)
        summary.note_seconds(run.project, name, outcome.seconds)
        run.record.add_seconds(name, outcome.seconds)
        run.record.finish_child(name)
    messages = {
        "ran": f"done in {outcome.seconds:.0f} s",
        "restored": "restored from DVC's cache: an earlier run made it from the same inputs",
    }
    message = messages.get(outcome.state, outcome.state)
    run.report(name, message)
    return message


def measure(run: Run) -> str:
    """Time the candidates on this machine and write the model card, unless both are up to date."""
    if not plan.unmeasured(run.project):
        return run.skip(MEASURE)
    run.report(MEASURE, "time the candidates on this machine")
    started = time.monotonic()
    command = [sys.executable, "-m", "temper", MEASURE]
    ended = subprocesses.run(command, cwd=run.project.folder, env=run.project.child_environment())
    if ended.code:
        message, printed = failure_messages.read(MEASURE, ended)
        raise run.fail(message, printed=printed)
    seconds = time.monotonic() - started
    run.ran.add(MEASURE)
    summary.note_seconds(run.project, MEASURE, seconds)
    return f"done in {seconds:.0f} s"


def register(run: Run) -> str:
    """Log the evaluation in MLflow, register the quantized model, and let the gate decide."""
    started = time.monotonic()
    new = plan.unregistered(run.project, run.params)
    if new or run.ran & _RECORDED:
        run.record.begin()
        run.record.add_evaluation()
        child = run.record.child(DEPLOYED)
        run.registered, reason = registration.register(run.record.client, run.project, run.params, child)
    else:
        digest = candidates.read(run.project)[DEPLOYED]["digest"]
        run.registered, reason = (
            model_versions.find(run.project, run.params.project, digest),
            "it was registered before",
        )
    if new:
        summary.note_seconds(run.project, REGISTER, time.monotonic() - started)
    version = run.registered
    if version is None:
        raise AssertionError("the model is neither registered nor new")
    message = (
        f"version {version.version} of {version.name} ({', '.join(version.aliases) or 'no alias'}): {reason}"
    )
    run.report(REGISTER, message)
    return message
