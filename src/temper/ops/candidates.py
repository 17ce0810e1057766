"""The candidates of a run: their names, the stages that make them, and their evaluation."""

from typing import Any

from temper import artifacts
from temper.ops.project import Project

CANDIDATES = {"teacher": "train", "student": "distill", artifacts.DEPLOYED: "quantize"}
"""Every candidate and the stage that makes it, in display order."""


def read(project: Project) -> dict[str, Any]:
    """Return what `evaluate` measured for each candidate, by the candidate's name.

    Raises:
        ValueError: If evaluate has no finished artifact.
    """
    found = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False).facts["candidates"]
    return {name: found[name] for name in CANDIDATES}
