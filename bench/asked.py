"""Which project a bench looks at: its command line, with `--help`."""

import argparse
from pathlib import Path


def read_project(description: str | None, *, default: str, stages: tuple[str, ...] = ()) -> tuple[Path, str]:
    """The folder of a project that was run, and one of `stages` (the first where none is named; empty where there are none).

    Ends the program with a line, and the status 2, where there is no such project.
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
                f"{folder / needed} does not exist; name a project, and run `make pipeline PROJECT={asked.project}` first"
            )
    return folder, getattr(asked, "stage", "")
