"""The Prefect task that registers the model."""

from tasks.step import step
from temper.ops.pipeline import steps
from temper.ops.pipeline.run import Run


@step
def register(run: Run) -> str:
    """Log the evaluation, register the quantized model, and let the gate decide."""
    return steps.register(run)
