"""Results of several trainings per contestant, as cells of a Markdown table."""

from collections.abc import Iterable, Sequence
from statistics import median

from peers.turns import Turn

NEVER = "not reached"


def read_levels(text: str) -> list[float]:
    """Read accuracies in percent from a comma-separated list.

    Raises:
        ValueError: If one of them is not a number above 0 and up to 100.
    """
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = [-1.0]
    if not all(0 < level <= 100 for level in levels):
        raise ValueError(
            f"levels = {text!r}: give percentages above 0 and up to 100, separated by commas, e.g. 92,93,94"
        )
    return levels


def spread(values: Sequence[float], digits: int = 0) -> str:
    """Return `median (least-most)` of some numbers; a single number stands alone."""
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def seconds_to(turns: Sequence[Turn], level: float) -> str:
    """Return the seconds to a level over several trainings.

    If some trainings did not reach the level, the cell also says how many did.
    """
    reached = [seconds for turn in turns if (seconds := turn.seconds_to(level)) is not None]
    if not reached:
        return NEVER
    return spread(reached, 1) + (
        "" if len(reached) == len(turns) else f", {len(reached)} of {len(turns)} runs"
    )


def times_sooner(turns: Sequence[Turn], others: Sequence[Turn], level: float) -> str:
    """Return the others' seconds to a level, divided by those of `turns`, run by run of the same round."""
    pairs = [
        (one.seconds_to(level), other.seconds_to(level)) for one, other in zip(turns, others, strict=False)
    ]
    ratios = [theirs / ours for ours, theirs in pairs if ours and theirs]
    return spread(ratios, 2) if ratios else "-"


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table; every column but the first is right-aligned."""
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
