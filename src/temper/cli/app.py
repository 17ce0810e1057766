"""The application behind the command `temper`, and what its commands share."""

import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from temper.config import Params, load
from temper.stages import BY_NAME

if TYPE_CHECKING:
    from temper.ops.project import Project

_HELP = """Write a project, look at it, serve and release its models, run a single stage.

`make pipeline` runs the whole pipeline. An error that a user can fix is printed as one paragraph; `TEMPER_DEBUG=1` adds the traceback.
"""


app = typer.Typer(help=_HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)
Folder = Annotated[Path, typer.Option("--project", help="Folder with params.yaml.")]
HERE = Path()


def operate(folder: Path, act: "Callable[[Project, Params], None]") -> None:
    """Run a command on a project, in the project's environment; ends with its exit status."""
    from temper.ops.pipeline import exit_status
    from temper.ops.project import Project

    project = Project.at(folder)
    os.environ.update(project.environment())
    logging.raiseExceptions = (
        False  # a log line that cannot be written would be reported in the midst of an error
    )

    def run() -> int:
        act(project, load(project.folder))
        return exit_status.OK

    raise typer.Exit(exit_status.run(run, interrupted="run the same command again"))


def check_stages(names: list[str]) -> None:
    """Refuse names that are no stage's.

    Raises:
        ValueError: Names the first one, and the stages.
    """
    if unknown := [name for name in names if name not in BY_NAME]:
        raise ValueError(f"no stage is called {unknown[0]!r}; there are {', '.join(BY_NAME)}")
