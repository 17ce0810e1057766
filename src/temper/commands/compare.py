"""Compare two registered models on the current test images: numbers, and a plot of them.

This is no DVC stage, because the project's files do not determine which models are compared.
"""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from temper import artifacts
from temper.config import load
from temper.gate.comparison import Comparison, Row, compare
from temper.gate.rating import read_rating
from temper.maths.batching import fit_batch
from temper.problem import SHARE
from temper.progress import Bar
from temper.stages.holdout import HeldOut, open_test
from temper.stress.evaluation import Candidate

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NUMBERS, PLOT = "comparison.json", "comparison.png"
_BATCH = 256
_MOST_STRATA = 25
_COLOURS = {"better": "#009E73", "worse": "#D55E00", "no difference shown": "#888888"}


def compare_models(
    project: Path, files: tuple[Path, Path], ratings: tuple[Path, Path], names: tuple[str, str], out: Path
) -> None:
    """Write `comparison.json` and `comparison.png`.

    Args:
        project: Folder with params.yaml and the artifact of prepare.
        files: Files of the two models.
        ratings: Files with the ratings of the two models on the same images.
        names: Names of the two models in the results.
        out: Folder for the results.

    Raises:
        ValueError: If the models answer different questions.
    """
    from temper.stress.plots import save

    params, prepare = load(project), artifacts.load("prepare", project / "artifacts" / "prepare")
    first, second = (read_rating(path) for path in ratings)
    found = compare(first, second, confidence=params.evaluate.confidence)
    test = open_test(prepare)
    numbers: dict[str, Any] = {
        "first": names[0],
        "second": names[1],
        "confidence": params.evaluate.confidence,
        "images": len(test.examples),
        "changed": changed(test, (test.open(files[0]), test.open(files[1]))),
        "bytes": [path.stat().st_size for path in files],
        **_as_json(found),
    }
    out.mkdir(parents=True, exist_ok=True)
    artifacts.write_atomically(out / NUMBERS, json.dumps(numbers, indent=2) + "\n")
    save(draw_comparison(found, names=names, unit=params.problem.headline.unit), out / PLOT)


def changed(test: HeldOut, models: tuple[Candidate, Candidate]) -> float:
    """Return the share of decisions on clean test images in which the second model differs from the first."""
    found = 0.0
    batches = torch.arange(len(test.examples)).split(fit_batch([test.examples.num_values], _BATCH))
    with Bar("compare", len(batches)) as bar:
        for keys in batches:
            shown = test.examples.serve(keys)
            ours, theirs = (model(shown) for model in models)
            found += float(test.problem.changed(ours, theirs).sum())
            bar.advance()
    return found / len(test.examples)


def _as_json(found: Comparison) -> dict[str, Any]:
    value = asdict(found)
    for part in ("scores", "strata", "cells"):
        for row, entry in zip(getattr(found, part), value[part], strict=True):
            entry["word"] = row.word
    return value


def draw_comparison(found: Comparison, *, names: tuple[str, str], unit: str) -> "Figure":
    """Draw the differences with their intervals: scores, strata, and every condition at every severity."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    from temper.stress.plots import STYLE

    rows = [*found.scores, *found.strata[:_MOST_STRATA]]
    conditions = list(dict.fromkeys(row.where.rpartition(" ")[0] for row in found.cells))
    with rc_context({**STYLE, "axes.grid.axis": "x"}):
        height = 1.6 + 0.24 * max(len(rows), 1.4 * len(conditions))
        figure = Figure(figsize=(11 if conditions else 6.5, height), layout="constrained")
        axes = figure.subplots(
            1, 2 if conditions else 1, squeeze=False, width_ratios=[3, 2] if conditions else None
        )[0]
        _draw_forest(axes[0], rows)
        axes[0].set_title(f"{names[1]} compared with {names[0]}: right of 0 is better")
        if conditions:
            _draw_cells(axes[1], found.cells, conditions, unit)
            axes[1].set_title(f"{found.headline} under stress")
    return figure


def _draw_forest(axis: "Axes", rows: list[Row]) -> None:
    for place, row in enumerate(reversed(rows)):
        colour = _COLOURS[row.word]
        axis.plot([row.low, row.high], [place, place], color=colour, linewidth=1.6)
        axis.plot([row.difference], [place], "o", color=colour, markersize=4)
    axis.axvline(0, color="#333333", linewidth=0.8)
    axis.set_yticks(
        range(len(rows)), [f"{row.metric}, {row.where}".replace("_", " ") for row in reversed(rows)]
    )
    axis.set_xlabel("difference, with its interval")


def _draw_cells(axis: "Axes", cells: tuple[Row, ...], conditions: list[str], unit: str) -> None:
    severities = sorted({int(row.where.rpartition(" ")[2]) for row in cells})
    values = np.full((len(conditions), len(severities)), np.nan)
    for row in cells:
        condition, _, severity = row.where.rpartition(" ")
        place = conditions.index(condition), severities.index(int(severity))
        values[place] = row.difference * (100 if unit == SHARE else 1)
        shown = "" if row.word == "no difference shown" else "*"
        axis.text(place[1], place[0], f"{values[place]:+.3g}{shown}", ha="center", va="center", fontsize=7.5)
    most = max(1.0 if unit == SHARE else 1e-9, float(np.nanmax(np.abs(values))))
    axis.imshow(values, cmap="RdYlGn", vmin=-most, vmax=most, aspect="auto", alpha=0.7)
    axis.grid(visible=False)
    axis.set_yticks(range(len(conditions)), conditions)
    axis.set_xticks(range(len(severities)), [str(each) for each in severities])
    in_unit = "points" if unit == SHARE else unit
    axis.set_xlabel(f"severity; differences in {in_unit}, * if the interval excludes 0")
