"""The Prefect task that times the candidates."""

from tasks.step import step
from temper.ops.pipeline import steps
from temper.ops.pipeline.run import Run


@step
def measure(run: Run) -> str:
    """Time the candidates on this machine and write the model card."""
    return steps.measure(run)
