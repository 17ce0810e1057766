"""The long table of scores: one row per candidate, situation and metric, with its interval.

It is written as Parquet and as CSV.
"""

import csv
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path

from temper.make_command import make_command
from temper.maths.statistics import interval
from temper.stress.cells import CLEAN, MEAN, Cell


@dataclass(frozen=True)
class Score:
    """One row of the long table."""

    candidate: str
    family: str
    """`clean`, `stratum`, or a family of conditions."""
    condition: str
    """A condition, `clean`, a stratum, or `mean` over the family's conditions."""
    severity: int | None
    """0 for clean images, 1 to 5 under stress, None for a mean over severities."""
    metric: str
    value: float
    low: float
    """Lower end of the bootstrap interval over source images."""
    high: float
    images: int
    """Number of source images behind the row."""


def tabulate(cells: Sequence[Cell], *, confidence: float) -> tuple[Score, ...]:
    """Turn the cells of an evaluation into the long table."""
    rows = []
    for cell in cells:
        for metric, value in cell.values.items():
            low, high = interval(cell.samples[metric], confidence=confidence)
            where = (cell.candidate, cell.family, cell.condition, cell.severity)
            rows.append(Score(*where, metric, value, float(low), float(high), cell.images))
    return tuple(rows)


def pick(
    scores: Sequence[Score], *, candidate: str, metric: str, family: str, condition: str, severity: int | None
) -> Score:
    """Return the one row of the table with these values.

    Raises:
        ValueError: If there is no such row.
    """
    wanted = (candidate, family, condition, severity, metric)
    for row in scores:
        if (row.candidate, row.family, row.condition, row.severity, row.metric) == wanted:
            return row
    raise ValueError(f"the table of scores has no row for {wanted}; run `{make_command('pipeline')}`")


def figures(scores: Sequence[Score], *, candidate: str, headline: str) -> dict[str, object]:
    """Return a candidate's headline, clean and as the mean over each family of conditions, with intervals."""

    def spread(family: str, condition: str, severity: int | None) -> dict[str, float]:
        row = pick(
            scores,
            candidate=candidate,
            metric=headline,
            family=family,
            condition=condition,
            severity=severity,
        )
        return {"value": row.value, "low": row.low, "high": row.high}

    families = dict.fromkeys(row.family for row in scores if row.condition == MEAN and row.severity is None)
    stress = {family: spread(family, MEAN, None) for family in families}
    return {headline: spread(CLEAN, CLEAN, 0), "stress": stress}


def write(scores: Sequence[Score], folder: Path) -> None:
    """Write `scores.parquet` and `scores.csv` into a folder; equal scores give equal bytes."""
    import pyarrow
    from pyarrow import parquet

    names = [item.name for item in fields(Score)]
    kinds = (
        [pyarrow.string()] * 3
        + [pyarrow.int64(), pyarrow.string()]
        + [pyarrow.float64()] * 3
        + [pyarrow.int64()]
    )
    columns = {name: [getattr(row, name) for row in scores] for name in names}
    table = pyarrow.table(columns, schema=pyarrow.schema(list(zip(names, kinds, strict=True))))
    parquet.write_table(table, folder / "scores.parquet")
    with (folder / "scores.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(names)
        writer.writerows(astuple(row) for row in scores)
