"""The STAGES table: the stages in order, with their inputs and parameters. dvc.yaml is generated from it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A step of the pipeline that DVC runs. Its code is `temper.stages.<name>.run`."""

    name: str
    inputs: tuple[str, ...]
    """Stages whose artifacts this stage reads."""
    params: tuple[str, ...]
    """Sections of params.yaml that the stage may read. It receives no others."""
    summary: str
    ranked: bool = False
    """Whether the stage runs through torchrun, with one process per rank."""
    resumes: bool = False
    """Whether the stage saves unfinished work in a folder of checkpoints and resumes from there."""
    tries: tuple[str, ...] = ()
    """Sections of later stages whose networks this stage builds before its own work, to report errors before
    hours of training."""
    external: tuple[str, ...] = ()
    """Dotted names of parameters that name files or folders of the user. DVC tracks those that are set."""


STAGES = (
    Stage("ingest", (), ("ingest",), "fetch the raw data", external=("ingest.folder", "ingest.file")),
    Stage(
        "prepare",
        ("ingest",),
        ("seed", "problem", "prepare"),
        "check, split and pack the images",
        external=("prepare.splits",),
    ),
    Stage("augment", ("prepare",), ("seed", "augment"), "rebalance the training split and materialise views"),
    Stage(
        "train",
        ("prepare", "augment"),
        ("seed", "train"),
        "train the teacher",
        ranked=True,
        resumes=True,
        tries=("distill",),
        external=("train.transfer.weights",),
    ),
    Stage(
        "distill",
        ("prepare", "augment", "train"),
        ("seed", "distill"),
        "distil the student",
        ranked=True,
        resumes=True,
        external=("distill.transfer.weights",),
    ),
    Stage(
        "quantize",
        ("prepare", "train", "distill"),
        ("seed", "quantize"),
        "export to ONNX and quantize the student",
    ),
    Stage(
        "evaluate",
        ("prepare", "quantize"),
        ("seed", "evaluate"),
        "measure every candidate, clean and under stress",
        resumes=True,
    ),
)
BY_NAME = {stage.name: stage for stage in STAGES}
