"""The candidates of a run, and the aliases of registered models: each name stands here once."""

from typing import Any

from temper import artifacts
from temper.ops.project import Project

CANDIDATE = "quantized"
"""The candidate that is registered."""


CANDIDATES = {"teacher": "train", "student": "distill", CANDIDATE: "quantize"}
"""Every candidate and the stage that makes it, in the order in which people read them."""


def read(project: Project) -> dict[str, Any]:
    """What `evaluate` found about each candidate.

    Raises:
        ValueError: If there is no finished artifact of evaluate.
    """
    found = artifacts.load("evaluate", project.artifacts / "evaluate", check_files=False).facts["candidates"]
    return {name: found[name] for name in CANDIDATES}
