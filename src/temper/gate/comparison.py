"""Comparison of two models: every score with its difference and interval, and where they differ most."""

from collections.abc import Sequence
from dataclasses import dataclass

from temper.gate.rating import CLEAN, MEAN, STRATUM, Rating
from temper.gate.significance import difference, discordant, mid_p


@dataclass(frozen=True)
class Row:
    """One score of both models."""

    metric: str
    where: str
    """`clean`, a family of stress (its mean), a condition and its severity, or a stratum."""
    family: str
    first: float
    second: float
    difference: float
    """Second minus first, with the sign chosen so that above 0 is better."""
    low: float
    high: float

    @property
    def word(self) -> str:
        """Conclusion from the interval: `better`, `worse` or `no difference shown`."""
        if self.low > 0:
            return "better"
        return "worse" if self.high < 0 else "no difference shown"


@dataclass(frozen=True)
class Comparison:
    """All results of comparing two ratings of the same images."""

    headline: str
    scores: tuple[Row, ...]
    """All scores on clean images, and the headline as the mean over each family of stress."""
    strata: tuple[Row, ...]
    """The headline by stratum, the largest loss first."""
    cells: tuple[Row, ...]
    """The headline under every condition and severity."""
    gained: int | None
    """Images that only the second model answers correctly; None if an image's score is not right or wrong."""
    lost: int | None
    """Images that only the first model answers correctly; None as for `gained`."""
    mid_p: float | None
    """One-sided mid-p value of McNemar's test that the second model is better."""


def compare(first: Rating, second: Rating, *, confidence: float) -> Comparison:
    """Compare two models.

    Args:
        first: Usually the champion.
        second: Usually the challenger.
        confidence: Confidence of each two-sided interval by itself.

    Raises:
        ValueError: If the models answer different questions or were measured on different images.
    """
    if first.question != second.question:
        raise ValueError(
            "the two models answer different questions (another kind of problem, or other classes): "
            "they cannot be compared"
        )
    if first.measured_on != second.measured_on:
        raise ValueError("the two models were measured on different images; rate both on the same images")
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
