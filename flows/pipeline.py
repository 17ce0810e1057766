"""The pipeline: from a folder of images to a registered model.

Prefect decides when a step runs, and DVC decides whether it must run. `temper.stages` defines what it does,
and MLflow stores the result. The command line is in `flows/__main__.py`;
`src/temper/ops/prefect/flow_runner.py` makes a Prefect flow of `pipeline`.
"""

from tasks.measure import measure
from tasks.register import register
from tasks.stages import augment, distill, evaluate, ingest, prepare, quantize, train
from tasks.step import Result
from temper.ops.pipeline.run import Run


def pipeline(run: Run) -> str:
    """Make a model from the images and register it; returns the message of the registration."""
    return make_model(run, read_images(run))


def read_images(run: Run) -> Result:
    """Read the images, check them and split them."""
    files = ingest(run)
    return prepare(run, files)


def make_model(run: Run, dataset: Result) -> str:
    """Train, compress, measure and register a model; returns the message of the registration."""
    draws = augment(run, dataset)
    teacher = train(run, dataset, draws)
    student = distill(run, dataset, draws, teacher)
    candidates = quantize(run, dataset, teacher, student)
    scores = evaluate(run, dataset, candidates)
    latencies = measure(run, scores)
    registered = register(run, latencies)
    return str(registered.message)
