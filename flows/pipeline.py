"""The pipeline: from a folder of images to a registered model.

Prefect decides when a step runs, DVC whether it must, `temper.stages` what it does, and MLflow keeps the result. The command line is in
`flows/__main__.py`.
"""

from tasks.measure import measure
from tasks.register import register
from tasks.stages import augment, distill, evaluate, ingest, prepare, quantize, train
from tasks.step import Result
from temper.ops.pipeline.run import Run


def pipeline(run: Run) -> str:
    """Make a model from the images and register it; returns what became of it."""
    return make_model(run, read_images(run))


def read_images(run: Run) -> Result:
    """Read the images, check them and split them."""
    files = ingest(run)
    return prepare(run, files)


def make_model(run: Run, dataset: Result) -> str:
    """Train, compress, measure and register; returns what became of the model."""
    draws = augment(run, dataset)
    teacher = train(run, dataset, draws)
    student = distill(run, dataset, draws, teacher)
    candidates = quantize(run, dataset, teacher, student)
    scores = evaluate(run, dataset, candidates)
    latencies = measure(run, scores)
    registered = register(run, latencies)
    return str(registered.message)
