"""Two models side by side: every score with its difference and interval, and where they differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

from temper.gate.evaluation_result import CLEAN, MEAN, STRATUM, Rating
from temper.gate.significance import difference, discordant, mid_p


@dataclass(frozen=True)
class Row:
    """One score of both."""

    metric: str
    where: str
    """`clean`, a family of stress (the mean over it), a condition and its severity, or a stratum."""
    family: str
    first: float
    second: float
    difference: float
    """Second minus first, turned so that above 0 is better."""
    low: float
    high: float

    @property
    def word(self) -> str:
        """What the interval allows to say."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference shown"


@dataclass(frozen=True)
class Comparison:
    """Everything that two ratings of the same images say about each other."""

    headline: str
    scores: tuple[Row, ...]
    """All scores on clean images, and the headline as the mean over each family of stress."""
    strata: tuple[Row, ...]
    """The headline by stratum, the one that lost most first."""
    cells: tuple[Row, ...]
    """The headline under every condition and severity."""
    gained: int | None
    """Images that only the second answers rightly; None where an image's score is not right or wrong."""
    lost: int | None
    mid_p: float | None
    """One-sided mid-p McNemar that the second is better."""


def compare(first: Rating, second: Rating, *, confidence: float) -> Comparison:
    """Hold one model against another.

    Args:
        first: Usually the champion.
        second: Usually the challenger.
        confidence: Of each two-sided interval by itself.

    Raises:
        ValueError: If they answer different questions or were measured on different images.
    """
    if first.question != second.question:
        raise ValueError(
            "the two models answer different questions: another kind of problem, or other classes; nothing can be compared"
        )
    if first.measured_on != second.measured_on:
        raise ValueError("the two models were measured on different images; rate both anew")
    headline, theirs = first.question.headline, {cell: number for number, cell in enumerate(first.cells)}
    rows = []
    for number, cell in enumerate(second.cells):
        if cell not in theirs:
            continue
        scores = (second.score([number]), first.score([theirs[cell]]))
        found = difference(
            *scores, greater_is_better=first.question.greater_is_better, confidence=(1 + confidence) / 2
        )
        where = cell.family if cell.condition in (CLEAN, MEAN) else cell.condition
        where += f" {cell.severity}" if cell.severity else ""
        rows.append(
            (
                cell,
                Row(
                    cell.metric,
                    where,
                    cell.family,
                    scores[1][0],
                    scores[0][0],
                    found.value,
                    found.low,
                    found.high,
                ),
            )
        )
    pairs = discordant(second.alone, first.alone)
    return Comparison(
        headline=headline,
        scores=tuple(
            row
            for cell, row in rows
            if (cell.family, cell.condition) == (CLEAN, CLEAN)
            or (cell.metric == headline and cell.condition == MEAN and cell.severity is None)
        ),
        strata=_worst_first([row for cell, row in rows if cell.family == STRATUM]),
        cells=tuple(row for cell, row in rows if cell.stressed and cell.metric == headline),
        gained=pairs[0] if pairs else None,
        lost=pairs[1] if pairs else None,
        mid_p=mid_p(*pairs) if pairs else None,
    )


def _worst_first(rows: Sequence[Row]) -> tuple[Row, ...]:
    return tuple(sorted(rows, key=lambda row: row.difference))
