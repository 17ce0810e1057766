"""Hidden commands: what `temper.ops` runs in a process of its own, since it needs torch."""

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.app import HERE, Folder
from temper.config import load

commands = typer.Typer()


@commands.command("measure", hidden=True)
def measure_candidates(project: Folder = HERE) -> None:
    """Time every candidate on this machine and write the reports."""
    from temper.commands.latency import measure

    measure(project, name=load(project).project)


@commands.command("rate", hidden=True)
def rate_model(
    file: Annotated[Path, typer.Argument(help="ONNX file of a registered model.")],
    out: Annotated[Path, typer.Argument(help="Where its rating goes.")],
    project: Folder = HERE,
) -> None:
    """Measure a registered model on the current test images, clean and under stress."""
    from temper.commands.rate import rate

    rate(project, file, out)


@commands.command("compare-files", hidden=True)
def compare_files(
    first: Annotated[Path, typer.Argument(help="ONNX file of one registered model.")],
    second: Annotated[Path, typer.Argument(help="ONNX file of the other.")],
    ratings: Annotated[tuple[Path, Path], typer.Option(help="What `rate` wrote for each.")],
    names: Annotated[tuple[str, str], typer.Option(help="What to call them.")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.json and comparison.png.")],
    project: Folder = HERE,
) -> None:
    """Compare two models that were rated before."""
    from temper.commands.compare import compare_models

    compare_models(project, (first, second), ratings, names, out)


@commands.command("test-drift", hidden=True)
def compare_with_recent(
    file: Annotated[Path, typer.Argument(help="ONNX file of the champion.")],
    images: Annotated[
        Path, typer.Argument(help="Text file with an image's path in every line, the newest last.")
    ],
    out: Annotated[Path, typer.Argument(help="Folder for drift.json and drift.png.")],
    false_alarms: Annotated[
        float, typer.Option(help="How often all tests together may raise a false alarm.")
    ] = 0.01,
    project: Folder = HERE,
) -> None:
    """Test whether recent images are like those that the champion was trained for."""
    from temper.commands.drift import measure_drift

    paths = [Path(line) for line in images.read_text(encoding="utf-8").splitlines()]
    measure_drift(project, file, paths, out, false_alarms=false_alarms)
