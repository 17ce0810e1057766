"""Sheets of boxes: the worst images first, and every box with the look that says what became of it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from temper.problems.detection import Detection
from temper.stress.judged_boxes import looks_of
from temper.stress.plots import save
from temper.stress.sheets import draw_mistakes
from temper.stress.worst_examples import Example, find_worst
from tests.toy import pool_of

PROBLEM = Detection(kind="detection", classes=("cat", "dog"))
POOL = pool_of(np.full((3, 20, 30, 1), 90, np.uint8))
BOX = [0.0, 0.0, 0.5, 0.5]
TARGETS = {
    "boxes": torch.tensor([[BOX, [0.5, 0.5, 1.0, 1.0]]] * 3),
    "labels": torch.tensor([[0, 1]] * 3),
    "boxes_valid": torch.tensor([[1, 1], [1, 0], [0, 0]]),
}


def always(given: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Answer one cat at the upper left, whatever is shown."""
    count = len(given["image"])
    return {
        "boxes": torch.tensor([[BOX, [0.0] * 4]] * count),
        "labels": torch.zeros(count, 2, dtype=torch.long),
        "scores": torch.tensor([[0.75, 0.0]] * count),
        "boxes_valid": torch.tensor([[1, 0]] * count),
    }


def worst(kind: str) -> list[Example]:
    answer = always(POOL.serve(torch.arange(3)))
    errors = PROBLEM.errors(answer, TARGETS)[kind].double()
    names = ["first", "second", "third"]
    return find_worst(PROBLEM, always, POOL, targets=TARGETS, errors=errors, count=3, names=names)


def said(example: Example) -> list[tuple[str, str]]:
    return [(each.look.words, each.text) for each in example.outlines]


def test_each_sheet_shows_its_own_images_and_names_them():
    (missed,) = worst("missed")
    assert missed.caption == "first: 1 of 2 found, 0 wrong"
    assert said(missed) == [("true, found", ""), ("answered, right", "cat 0.75"), ("true, not found", "dog")]
    assert missed.outlines[1].box == (0.0, 0.0, 0.5, 0.5)
    (alarm,) = worst("false-alarms")
    assert alarm.caption == "third: 0 of 0 found, 1 wrong"
    assert said(alarm) == [("answered, on no object", "cat 0.75")]
    assert worst("wrong-class") == []


def test_a_legend_names_the_looks_of_a_sheet_in_one_order():
    outlines = [each.outlines for kind in ("false-alarms", "missed") for each in worst(kind)]
    words = [look.words for look in looks_of(outlines)]
    assert words == ["true, found", "true, not found", "answered, right", "answered, on no object"]
    assert looks_of([[], []]) == []
    figure = draw_mistakes([*worst("missed"), *worst("false-alarms")])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == words


def test_boxes_lie_where_they_were_answered_and_mistakes_over_others(tmp_path: Path):
    (missed,) = worst("missed")
    figure = draw_mistakes([missed])
    axis = figure.axes[0]
    # Pixels of 30 x 20, whose middles have whole numbers.
    ends = [patch.get_bbox().extents.tolist() for patch in axis.patches]
    assert ends == [[-0.5, -0.5, 14.5, 9.5], [-0.5, -0.5, 14.5, 9.5], [14.5, 9.5, 29.5, 19.5]]
    widths = [patch.get_linewidth() for patch in axis.patches]
    assert widths == sorted(widths)
    assert [text.get_text() for text in axis.texts] == ["", "cat 0.75", "dog"]
    for name in ("first.png", "again.png"):
        save(draw_mistakes([missed]), tmp_path / name)
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "again.png").read_bytes()
