"""The entry point of the command `temper`."""

import os
import sys

from temper import artifacts
from temper.cli import internal_commands, model_commands, project_commands
from temper.cli.application import app
from temper.parent_death import end_with_parent

_TIMES_STEPS = ("estimate", "init")
"""Commands that time training steps."""
_STARTED_BY_US = {"DVC_STAGE", "TEMPER_PIPELINE", "TORCHELASTIC_RUN_ID"}
"""Variables set by DVC, the flow and torchrun.

If none of them is set, a user started the stage, and it may outlive its shell.
"""


for _each in (project_commands, model_commands, internal_commands):
    app.add_typer(_each.commands)


def compute_as_ranks_do() -> None:
    """Restart this command with the variables of a rank if it times training steps.

    Without these variables, the measured speed differs from the speed of a training.
    """
    if "torch" in sys.modules or sys.argv[1:2] not in [[name] for name in _TIMES_STEPS]:
        return
    from temper.engine.distributed.launcher import rank_environment

    variables = rank_environment(1)
    if not variables.items() <= os.environ.items():
        os.execve(
            sys.executable, [sys.executable, "-m", "temper", *sys.argv[1:]], {**os.environ, **variables}
        )


def main() -> None:
    """Run the command line. Errors that a user can fix end with status 2 and one paragraph."""
    compute_as_ranks_do()
    if not os.environ.keys().isdisjoint(_STARTED_BY_US):
        end_with_parent()
    try:
        app()
    except (ValueError, OSError) as error:
        if os.environ.get("TEMPER_DEBUG"):
            raise
        text = artifacts.explain(error) if isinstance(error, OSError) else str(error)
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(2) from None
