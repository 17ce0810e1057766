"""What several trainings of each contestant came to, as cells of a table."""

from collections.abc import Iterable, Sequence
from statistics import median

from peers.turns import Turn

NEVER = "not reached"


def read_levels(text: str) -> list[float]:
    """Accuracies in percent, from a list with commas.

    Raises:
        ValueError: If one is no number between 0 and 100.
    """
    try:
        levels = [float(part) for part in text.split(",")]
    except ValueError:
        levels = [-1.0]
    if not all(0 < level <= 100 for level in levels):
        raise ValueError(
            f"levels = {text!r}; give percents above 0 and up to 100 with commas between them, e.g. 92,93,94"
        )
    return levels


def spread(values: Sequence[float], digits: int = 0) -> str:
    """`median (least-most)` of some numbers; the number alone where there is one."""
    middle = f"{median(values):,.{digits}f}"
    return middle if len(values) == 1 else f"{middle} ({min(values):,.{digits}f}-{max(values):,.{digits}f})"


def seconds_to(turns: Sequence[Turn], level: float) -> str:
    """Seconds to a level over several trainings; those that never reached it are counted, not left out silently."""
    reached = [seconds for turn in turns if (seconds := turn.seconds_to(level)) is not None]
    if not reached:
        return NEVER
    return spread(reached, 1) + (
        "" if len(reached) == len(turns) else f", {len(reached)} of {len(turns)} runs"
    )


def times_sooner(turns: Sequence[Turn], others: Sequence[Turn], level: float) -> str:
    """How many times the others' seconds to a level are those of some trainings, run by run of the same round."""
    pairs = [
        (one.seconds_to(level), other.seconds_to(level)) for one, other in zip(turns, others, strict=False)
    ]
    ratios = [theirs / ours for ours, theirs in pairs if ours and theirs]
    return spread(ratios, 2) if ratios else "-"


def by_contestant(turns: Iterable[Turn]) -> dict[str, list[Turn]]:
    """Trainings by contestant, in the order in which contestants first appear."""
    found: dict[str, list[Turn]] = {}
    for turn in turns:
        found.setdefault(turn.contestant, []).append(turn)
    return found


def markdown(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; every column but the first is set to the right."""
    lines = [head, ["---", *("--:" for _ in head[1:])], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
