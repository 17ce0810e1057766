"""Sheets of images in the report: samples of the conditions, and the worst mistakes."""

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from temper.stress.conditions import SEVERITIES, Condition, stress
from temper.stress.judged_boxes import Look, looks_of
from temper.stress.plots import STYLE
from temper.stress.pool import Pool, as_served
from temper.stress.worst_examples import Example

_CAPTION_COLUMNS = 22
_SHEET_COLUMNS, _OUTLINED_COLUMNS = 6, 4
"""How many square images a row has, without and with outlines."""
_SHEET_INCHES = 9.3
_MOST_LOOKS = 5
"""Largest number of looks in a line of the legend."""


@rc_context(STYLE)
def draw_samples(images: Pool, *, key: int, conditions: Sequence[Condition], seed: int) -> Figure:
    """Draw one image under every condition (rows) at every severity (columns), each with its strength."""
    keys = torch.tensor([key])
    image = images.take(keys)
    columns = (0, *SEVERITIES)
    figure = Figure(figsize=(1.02 * len(columns) + 1.7, 1.14 * len(conditions) + 0.5), layout="constrained")
    axes = figure.subplots(len(conditions), len(columns), squeeze=False)
    for row, condition in zip(axes, conditions, strict=True):
        for axis, severity in zip(row, columns, strict=True):
            shown = stress(condition, image, keys=keys, severity=severity, seed=seed, pool=images).images
            _show(axis, as_served(shown)[0])
            if severity:
                axis.set_xlabel(
                    f"{condition.strengths[severity - 1]:g}", fontsize=7, labelpad=2, color="#555555"
                )
        row[0].set_ylabel(
            f"{condition.name}\n({condition.unit})",
            rotation=0,
            ha="right",
            va="center",
            fontsize=8,
            labelpad=6,
        )
    for axis, severity in zip(axes[0], columns, strict=True):
        axis.set_title(
            f"severity {severity}" if severity else "clean", fontsize=8, loc="center", fontweight="normal"
        )
    return figure


@rc_context(STYLE)
def draw_mistakes(examples: Sequence[Example]) -> Figure:
    """Draw examples, worst first, with a caption each; long captions are wrapped.

    With outlines, images are larger, and a legend above them says what each look means.
    """
    looks = looks_of([example.outlines for example in examples])
    fitting = _OUTLINED_COLUMNS if looks else _SHEET_COLUMNS
    wide = max(example.image.shape[1] / len(example.image) for example in examples)
    columns = max(1, round(fitting / max(1.0, wide)))
    rows = -(-len(examples) // columns)
    cell = _SHEET_INCHES / fitting
    legend_lines = -(-len(looks) // _MOST_LOOKS)
    height = (cell + 0.3) * rows + 0.1 + 0.25 * legend_lines
    figure = Figure(figsize=(_SHEET_INCHES, height), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, example in zip(axes, examples, strict=False):
        _show(axis, example.image)
        _draw_outlines(axis, example)
        axis.set_xlabel(
            textwrap.fill(example.caption, _CAPTION_COLUMNS * _SHEET_COLUMNS // columns),
            fontsize=7,
            labelpad=3,
        )
    for axis in axes[len(examples) :]:
        axis.set_visible(False)
    if looks:
        handles = [_rectangle((0.0, 0.0), 1.0, 1.0, look) for look in looks]
        words = [look.words for look in looks]
        across = -(-len(looks) // legend_lines)
        figure.legend(handles, words, loc="outside upper center", ncols=across, fontsize=8)
    return figure


def _draw_outlines(axis: Axes, example: Example) -> None:
    """Draw boxes, with their words at the top of answered ones and at the bottom of true ones."""
    height, width = example.image.shape[:2]
    for each in example.outlines:
        left, top, right, bottom = np.array(each.box) * (width, height, width, height) - 0.5
        axis.add_patch(_rectangle((left, top), right - left, bottom - top, each.look))
        axis.annotate(
            each.text,
            (left, bottom if each.look.is_true else top),
            xytext=(2, 2 if each.look.is_true else -2),
            textcoords="offset points",
            va="bottom" if each.look.is_true else "top",
            fontsize=6.5,
            color=each.look.colour,
            bbox={"boxstyle": "square,pad=0.12", "facecolor": "black", "alpha": 0.75, "linewidth": 0},
            clip_on=True,
        )


def _rectangle(corner: tuple[float, float], width: float, height: float, look: Look) -> Rectangle:
    """Return a frame with a dark rim, which is visible on any image."""
    return Rectangle(
        corner,
        width,
        height,
        fill=False,
        edgecolor=look.colour,
        linewidth=look.width,
        linestyle=(0, (3, 2)) if look.dashed else "solid",
        path_effects=[withStroke(linewidth=look.width + 1.2, foreground="black")],
    )


def _show(axis: Axes, image: np.ndarray) -> None:
    grey = image.shape[2] == 1
    axis.imshow(image[:, :, 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
