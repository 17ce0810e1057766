"""The application behind the command `temper`, and the functions that its commands share."""

import logging
import os
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temper.config import Params, load
from temper.stages import BY_NAME

if TYPE_CHECKING:
    from temper.ops.project import Project

_HELP = """Create and inspect a project, serve and release its models, run a single stage.

`make pipeline` runs the whole pipeline. An error that a user can fix is printed as one paragraph;
`TEMPER_DEBUG=1` adds the traceback.
"""

app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


def _say_version(wanted: bool) -> None:
    if wanted:
        print(f"temper {version('temper')}")
        raise typer.Exit


@app.callback()
def _options(
    show_version: Annotated[
        bool,
        typer.Option("--version", callback=_say_version, is_eager=True, help="Print the version and exit."),
    ] = False,
) -> None:
    """Take the options of the command itself."""


Folder = Annotated[Path, typer.Option("--project", help="Folder with params.yaml.")]
HERE = Path()


def operate(folder: Path, act: "Callable[[Project, Params], None]") -> None:
    """Run a command on a project, in the project's environment, and exit with its status."""
    from temper.ops.pipeline import exit_status
    from temper.ops.project import Project

    project = Project.at(folder)
    os.environ.update(project.environment())
    # Otherwise logging would report a log line that cannot be written in the middle of an error message.
    logging.raiseExceptions = False

    def run() -> int:
        act(project, load(project.folder))
        return exit_status.OK

    raise typer.Exit(exit_status.run(run, interrupted="run the same command again"))


def check_stages(names: list[str]) -> None:
    """Reject unknown names of stages.

    Raises:
        ValueError: If there is one; names the first one and all stages.
    """
    if unknown := [name for name in names if name not in BY_NAME]:
        raise ValueError(f"stage {unknown[0]!r} does not exist; the stages are {', '.join(BY_NAME)}")
