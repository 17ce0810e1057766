"""The state that all steps of one run share, and how a step reports progress and failure."""

import sys
from dataclasses import dataclass, field

from temper.config import Params
from temper.ops.mlflow.model_versions import Registered
from temper.ops.mlflow.run_logger import Record
from temper.ops.pipeline.plan import Step
from temper.ops.project import Project


class StepFailed(Exception):
    """A step failed, and its reason has been printed."""


@dataclass
class Run:
    """One run of the pipeline."""

    project: Project
    params: Params
    plan: dict[str, Step]
    record: Record
    force: tuple[str, ...] = ()
    """Stages that run even if nothing changed."""
    registered: Registered | None = None
    """Model version that the run registered or found registered."""
    ran: set[str] = field(default_factory=set)
    """Steps that were executed, not skipped or restored."""
    failure: str | None = None
    """The first failure, as a paragraph."""

    def report(self, step: str, text: str) -> None:
        """Print a line about a step."""
        names = list(self.plan)
        print(f"[{names.index(step) + 1}/{len(names)}] {step}: {text}", flush=True)

    def skip(self, step: str) -> str:
        """Report a step that was up to date when the plan was made; returns the step's message."""
        self.report(step, "up to date")
        return "up to date"

    def fail(self, message: str, *, printed: bool = False) -> StepFailed:
        """Record and print why the run ends here; returns the exception to raise.

        Args:
            message: The failure, as a paragraph.
            printed: The stage has already printed the message, so it is not printed again.
        """
        self.failure = self.failure or message
        if not printed:
            print(f"error: {message}", file=sys.stderr, flush=True)
        return StepFailed(message)
