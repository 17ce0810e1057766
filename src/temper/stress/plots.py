"""Curves and matrices of the report.

The colours are by Okabe and Ito (2008): colour-blind readers can distinguish them. Marks distinguish the
curves in grey.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from temper.fields import Field
from temper.fonts import list_families
from temper.problem import SHARE, Headline
from temper.stress.cells import CLEAN, MEAN, SUBSET
from temper.stress.conditions import SEVERITIES, Condition
from temper.stress.scores import Score, pick

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = ("o", "s", "D", "^", "v", "P")
DOTS_PER_INCH = 130
STYLE = {
    # Names of classes are no formulas: a `$` is a dollar.
    "text.parse_math": False,
    "font.family": list(list_families()),
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#888888",
    "axes.labelcolor": "#333333",
    "xtick.color": "#555555",
    "ytick.color": "#555555",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "grid.color": "#e4e4e4",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
_MOST_NAMES = 30
"""A confusion matrix with more classes than this has no names and numbers."""


@rc_context({"text.parse_math": False})  # the labels of ticks are made only now
def save(figure: Figure, path: Path) -> None:
    """Write a PNG that depends only on the figure: it contains no date and no version."""
    figure.savefig(path, dpi=DOTS_PER_INCH, metadata={"Software": None})


@rc_context(STYLE)
def draw_families(scores: Sequence[Score], *, headline: Headline, families: Sequence[str]) -> Figure:
    """Draw the headline over severity, one panel per family.

    A panel shows the mean of the family's conditions, with its interval as a band.
    """
    return _draw_panels(
        scores, headline, [(family, family, MEAN) for family in families], columns=len(families)
    )


@rc_context(STYLE)
def draw_conditions(
    scores: Sequence[Score], *, headline: Headline, conditions: Sequence[Condition]
) -> Figure:
    """Draw the headline over severity, one panel per condition."""
    panels = [(item.name, item.family, item.name) for item in conditions]
    return _draw_panels(scores, headline, panels, columns=min(4, len(panels)))


def _draw_panels(
    scores: Sequence[Score], headline: Headline, panels: Sequence[tuple[str, str, str]], *, columns: int
) -> Figure:
    """Draw panels of (title, family, condition), filled row by row, on one scale."""
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(max(2.6 * columns, 5.2), 2.35 * rows + 0.75), layout="constrained")
    axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    candidates = list(dict.fromkeys(row.candidate for row in scores))
    for axis, (title, family, condition) in zip(axes.flat, panels, strict=False):
        for number, candidate in enumerate(candidates):
            points = [
                _point(scores, candidate, headline.name, family, condition, severity)
                for severity in (0, *SEVERITIES)
            ]
            _draw_line(axis, points, number)
        axis.set_title(title)
    for axis in axes.flat[len(panels) :]:
        axis.set_visible(False)
    for axis in axes.flat[: len(panels)]:
        axis.tick_params(labelbottom=True)
    axes[0, 0].set_xticks((0, *SEVERITIES))
    label = headline.name.replace("_", " ")
    if headline.unit == SHARE:
        axes[0, 0].set_ylim(0, 1)
        axes[0, 0].yaxis.set_major_formatter(PercentFormatter(xmax=1, decimals=0))
    else:
        label = f"{label} ({headline.unit})"
    figure.supylabel(label, fontsize=9, color="#333333")
    figure.supxlabel("severity (0: the same images, clean)", fontsize=9, color="#333333")
    handles = axes[0, 0].get_lines()
    figure.legend(handles, candidates, loc="outside upper center", ncols=len(candidates))
    return figure


def _point(
    scores: Sequence[Score], candidate: str, headline: str, family: str, condition: str, severity: int
) -> Score:
    """Return a point of a curve; at severity 0 it is the clean score of the same images."""
    where = (family, condition) if severity else (CLEAN, SUBSET)
    return pick(
        scores, candidate=candidate, metric=headline, family=where[0], condition=where[1], severity=severity
    )


def _draw_line(axis: Axes, points: Sequence[Score], number: int) -> None:
    colour, mark = PALETTE[number % len(PALETTE)], MARKS[number % len(MARKS)]
    severities = [point.severity or 0 for point in points]
    axis.fill_between(
        severities,
        [point.low for point in points],
        [point.high for point in points],
        color=colour,
        alpha=0.2,
        lw=0,
    )
    values = [point.value for point in points]
    axis.plot(severities, values, color=colour, marker=mark, markersize=4, linewidth=1.6, clip_on=False)


@rc_context(STYLE)
def draw_measured(true: np.ndarray, found: np.ndarray, *, field: Field, candidate: str) -> Figure:
    """Draw measured against true values, one panel per quantity; right answers lie on the diagonal.

    Args:
        true: True values, [images, quantities].
        found: Values in the answers.
        field: Names of the quantities, and their unit.
        candidate: Name of the candidate that gave the answers.
    """
    columns = min(3, len(field.names))
    rows = -(-len(field.names) // columns)
    figure = Figure(figsize=(3.6 * columns, 3.5 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    unit = f" ({field.unit})" if field.unit else ""
    for place, (name, axis) in enumerate(zip(field.names, axes.flat, strict=False)):
        ends = [
            min(true[:, place].min(), found[:, place].min()),
            max(true[:, place].max(), found[:, place].max()),
        ]
        axis.plot(ends, ends, color="#999999", linewidth=1)
        axis.plot(true[:, place], found[:, place], ".", color=PALETTE[0], alpha=0.35, markersize=4)
        axis.set_title(f"{candidate}: {name}")
        axis.set_xlabel(f"true{unit}")
        axis.set_ylabel(f"predicted{unit}")
    for axis in axes.flat[len(field.names) :]:
        axis.set_visible(False)
    return figure


@rc_context({**STYLE, "axes.grid": False})
def draw_confusion(counts: np.ndarray, *, classes: Sequence[str], candidate: str) -> Figure:
    """Draw how often each true class (row) was answered with each class, as shares of the row, in per cent.

    Args:
        counts: Whole numbers [classes, classes].
        classes: Names of the classes.
        candidate: Name of the candidate that gave the answers.
    """
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    named = len(classes) <= _MOST_NAMES
    side = 0.46 * len(classes) + 2.2 if named else 8.0
    figure = Figure(figsize=(side + 0.2, side), layout="constrained")
    axis = figure.add_subplot()
    axis.imshow(np.sqrt(shares), cmap="Blues", vmin=0, vmax=1)  # The root makes rare confusions visible.
    axis.set_title(f"{candidate}: answers per true class, %")
    axis.set_xlabel("predicted class")
    axis.set_ylabel("true class")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
    if not named:
        return figure
    axis.set_xticks(range(len(classes)), classes, rotation=45, ha="right", rotation_mode="anchor")
    axis.set_yticks(range(len(classes)), classes)
    for row, column in np.argwhere(counts > 0):
        share = 100 * shares[row, column]
        text = f"{share:.0f}" if share >= 0.5 else "·"
        dark = shares[row, column] > 0.3
        axis.text(
            column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "#333333"
        )
    return figure
