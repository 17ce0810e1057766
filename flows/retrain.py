"""Retraining: read new data, train if there is a reason to, let the gate decide.

If data, code and parameters are unchanged, nothing is trained. The decision is printed and recorded in
Prefect and, if a step ran, in MLflow.
"""

from prefect.artifacts import create_markdown_artifact

from flows.pipeline import make_model, read_images
from temper.ops.pipeline import plan, training_time
from temper.ops.pipeline.run import Run, StepFailed
from temper.ops.prefect.flow_runner import RETRAIN
from temper.ops.retraining import triggers


def retrain(run: Run, *, force: bool) -> str:
    """Train again if there is a reason to; returns the decision and the message of the registration.

    Args:
        run: State of the run.
        force: A person started the retraining, so thresholds do not apply.
    """
    try:
        message = _retrain(run, force=force)
    except StepFailed as error:
        _publish(run, f"failed: {error}")
        raise
    _publish(run, f"{'not trained' if run.registered is None else 'trained'}: {message}")
    return message


def _retrain(run: Run, *, force: bool) -> str:
    dataset = read_images(run)
    steps = plan.make(run.project, run.params)
    run.plan = {step.name: step for step in steps}
    decision = triggers.check_reasons(run.project, run.params, steps, force=force)
    print(f"retrain: {'training' if decision.train else 'not training'}: {decision.why}", flush=True)
    run.record.add_note(f"Retrain: {decision.why}.")
    if not decision.train:
        return decision.why
    for line in training_time.report_lines(run.project, run.params, steps):
        print(line, flush=True)
    return f"{decision.why}; {make_model(run, dataset)}"


def _publish(run: Run, message: str) -> None:
    """Show the result on Prefect's pages. All results have one key, so that Prefect lists them together."""
    paragraphs = [f"**{run.params.project}**: {message}"]
    if (version := run.registered) is not None:
        aliases = ", ".join(version.aliases) or "no alias"
        paragraphs.append(f"Version {version.version} ({aliases}), SHA-256 {version.digest}")
    description = f"Result of {run.record.name}"
    create_markdown_artifact("\n\n".join(paragraphs), key=RETRAIN, description=description)
