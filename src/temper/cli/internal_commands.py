"""Hidden commands, which `temper.ops` runs in a separate process because they need torch."""

from pathlib import Path
from typing import Annotated

import typer

from temper.cli.application import HERE, Folder
from temper.config import load

commands = typer.Typer()


@commands.command("list-files", hidden=True)
def list_files(project: Folder = HERE) -> None:
    """Renew the digest of the files that ingest reads, for `dvc repro`."""
    from temper.stages import source_files

    source_files.update(project, load(project).ingest)


@commands.command("measure", hidden=True)
def measure_candidates(project: Folder = HERE) -> None:
    """Time every candidate on this machine and write the reports."""
    from temper.commands.latency import measure

    measure(project, name=load(project).project)


@commands.command("rate", hidden=True)
def rate_model(
    file: Annotated[Path, typer.Argument(help="ONNX file of a registered model.")],
    out: Annotated[Path, typer.Argument(help="File for the rating.")],
    project: Folder = HERE,
) -> None:
    """Measure a registered model on the current test images, clean and under stress."""
    from temper.commands.rate import rate

    rate(project, file, out)


@commands.command("compare-files", hidden=True)
def compare_files(
    first: Annotated[Path, typer.Argument(help="ONNX file of one registered model.")],
    second: Annotated[Path, typer.Argument(help="ONNX file of the other.")],
    ratings: Annotated[tuple[Path, Path], typer.Option(help="Files that `rate` wrote for the two models.")],
    names: Annotated[tuple[str, str], typer.Option(help="Names of the two models in the comparison.")],
    out: Annotated[Path, typer.Option(help="Folder for comparison.json and comparison.png.")],
    project: Folder = HERE,
) -> None:
    """Compare two models that have been rated."""
    from temper.commands.compare import compare_models

    compare_models(project, (first, second), ratings, names, out)


@commands.command("test-drift", hidden=True)
def compare_with_recent(
    file: Annotated[Path, typer.Argument(help="ONNX file of the champion.")],
    images: Annotated[Path, typer.Argument(help="Text file with one image path per line, the newest last.")],
    out: Annotated[Path, typer.Argument(help="Folder for drift.json and drift.png.")],
    false_alarms: Annotated[
        float, typer.Option(help="Permitted rate of false alarms of all tests together.")
    ] = 0.01,
    project: Folder = HERE,
) -> None:
    """Test whether recent images are similar to those that the champion was trained for."""
    from temper.commands.drift import measure_drift

    paths = [Path(line) for line in images.read_text(encoding="utf-8").splitlines()]
    measure_drift(project, file, paths, out, false_alarms=false_alarms)
