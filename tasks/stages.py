"""One Prefect task per DVC stage: each asks DVC to run the stage if it is not up to date."""

from tasks.step import step
from temper.ops.pipeline.run import Run
from temper.ops.pipeline.steps import run_stage


@step
def ingest(run: Run) -> str:
    """Fetch the raw data."""
    return run_stage(run, "ingest")


@step
def prepare(run: Run) -> str:
    """Check, split and pack the images."""
    return run_stage(run, "prepare")


@step
def augment(run: Run) -> str:
    """Rebalance the training split and materialise views."""
    return run_stage(run, "augment")


@step
def train(run: Run) -> str:
    """Train the teacher."""
    return run_stage(run, "train")


@step
def distill(run: Run) -> str:
    """Distil the student."""
    return run_stage(run, "distill")


@step
def quantize(run: Run) -> str:
    """Export the networks to ONNX and quantize the student."""
    return run_stage(run, "quantize")


@step
def evaluate(run: Run) -> str:
    """Measure every candidate, clean and under stress."""
    return run_stage(run, "evaluate")
