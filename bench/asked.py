"""The command line of the benchmarks that need a finished project, with `--help`."""

import argparse
from pathlib import Path


def read_project(description: str | None, *, default: str, stages: tuple[str, ...] = ()) -> tuple[Path, str]:
    """Read the project's folder and the stage from the command line.

    Args:
        description: Text for `--help`.
        default: Project if the command line names none.
        stages: Stages that may be named; the first one is the default.

    Returns:
        The folder of a project that has been run, and the stage; an empty string if there are no `stages`.

    Raises:
        SystemExit: With status 2 and one line, if the project does not exist or has not been run.
    """
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "project",
        nargs="?",
        type=Path,
        default=Path(default),
        help=f"folder with params.yaml (default: {default})",
    )
    if stages:
        parser.add_argument(
            "stage", nargs="?", choices=stages, default=stages[0], help=f"default: {stages[0]}"
        )
    asked = parser.parse_args()
    folder: Path = asked.project.resolve()
    for needed in ("params.yaml", "artifacts/prepare", "artifacts/augment"):
        if not (folder / needed).exists():
            parser.error(
                f"project = {asked.project}: {folder / needed} does not exist; name a project, and run "
                f"`make pipeline PROJECT={asked.project}` first"
            )
    return folder, getattr(asked, "stage", "")
