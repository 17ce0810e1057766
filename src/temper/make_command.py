"""The command that a message advises: a target of the Makefile, for the right project."""

import os
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
"""The repository, which contains the Makefile, `flows`, `tasks` and `src`; commands are run here."""

PROJECT = "TEMPER_PROJECT"
"""Variable that every process of a project carries; its value is the project's folder."""


def make_command(target: str, folder: Path | None = None) -> str:
    """Return the command for a target of the Makefile, with PROJECT= if the project is not the repository.

    Args:
        target: Target and its other variables, e.g. `promote VERSION=2`.
        folder: Absolute path of the project's folder; by default that of the process's own project.

    Example:
        >>> make_command("ui", ROOT / "examples/digits")
        'make ui PROJECT=examples/digits'
    """
    folder = folder or Path(os.environ.get(PROJECT, ROOT))
    if folder == ROOT:
        return f"make {target}"
    shown = folder.relative_to(ROOT) if folder.is_relative_to(ROOT) else folder
    return f"make {target} PROJECT={shlex.quote(str(shown))}"
