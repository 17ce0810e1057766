"""Sheets of images in the report: samples of the conditions, and the worst mistakes."""

import textwrap
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from temper.stress.conditions import SEVERITIES, Condition, stress
from temper.stress.plots import STYLE
from temper.stress.pool import Pool, as_served

_CAPTION_COLUMNS = 22
_SHEET_COLUMNS = 6


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
def draw_mistakes(images: Sequence[np.ndarray], *, captions: Sequence[str]) -> Figure:
    """Draw images with a caption each.

    Args:
        images: uint8 [height, width, channels] each, worst first.
        captions: One line per image; long lines are wrapped.
    """
    wide = max(image.shape[1] / len(image) for image in images)
    columns = max(1, round(_SHEET_COLUMNS / max(1.0, wide)))
    rows = -(-len(images) // columns)
    figure = Figure(figsize=(1.55 * _SHEET_COLUMNS, 1.85 * rows + 0.1), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flat
    for axis, image, caption in zip(axes, images, captions, strict=False):
        _show(axis, image)
        axis.set_xlabel(
            textwrap.fill(caption, _CAPTION_COLUMNS * _SHEET_COLUMNS // columns), fontsize=7, labelpad=3
        )
    for axis in axes[len(images) :]:
        axis.set_visible(False)
    return figure


def _show(axis: Axes, image: np.ndarray) -> None:
    grey = image.shape[2] == 1
    axis.imshow(image[:, :, 0] if grey else image, cmap="gray" if grey else None, vmin=0, vmax=255)
    axis.set_xticks([])
    axis.set_yticks([])
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
