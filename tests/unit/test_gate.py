"""The gate's verdict, for every case that has one."""

import math

import pytest

from temper.gate import Score, judge


def score(value: float | None, name: str = "accuracy", **more) -> Score:
    return Score(name, value, **more)


@pytest.mark.parametrize(
    ("challenger", "champion", "max_drop", "opens"),
    [
        (score(0.9), None, 0.0, True),
        (score(0.9), score(0.9), 0.0, True),
        (score(0.89), score(0.90), 0.01, True),  # 0.90 - 0.89 is a little more than 0.01 in binary
        (score(0.889), score(0.90), 0.01, False),
        (score(0.95), score(0.90), 0.0, True),
        (score(None), None, 0.0, False),
        (score(math.nan), score(0.1), 1.0, False),
        (score(0.9), score(None), 1.0, False),
        (score(0.9), score(0.1, "mean_iou"), 1.0, False),
        (score(0.2, "error", greater_is_better=False), score(0.3, "error", greater_is_better=False), 0.0, True),
        (score(0.4, "error", greater_is_better=False), score(0.3, "error", greater_is_better=False), 0.05, False),
    ],
)
def test_verdicts(challenger: Score, champion: Score | None, max_drop: float, opens: bool):
    assert judge(challenger, champion, max_drop=max_drop).opens is opens


def test_reasons_name_the_figures():
    assert judge(score(0.80), score(0.90), max_drop=0.01).reason == (
        "accuracy 0.8000 against the champion's 0.9000: worse by 0.1000, allowed are 0.01"
    )
    said = judge(score(0.9, data="b"), score(0.9, data="a"), max_drop=0.0).reason
    assert "measured on other data" in said
