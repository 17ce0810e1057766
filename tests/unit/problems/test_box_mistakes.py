"""Each wrong box is a miss, a false alarm or a wrong class, and the worst images of each come first."""

import pytest
import torch

from temper.fields import ABSENT, PRESENT, UNDECIDED
from temper.mistakes import Verdict
from temper.problems.detection import Detection

PROBLEM = Detection(kind="detection", classes=("cat", "dog"))
LEFT, RIGHT, LOW = [0.0, 0.0, 0.4, 0.4], [0.6, 0.0, 1.0, 0.4], [0.0, 0.6, 0.4, 1.0]
NOTHING = [0.6, 0.6, 1.0, 1.0]


def columns(*boxes: tuple[list[float], int, float], room: int = 5) -> dict[str, torch.Tensor]:
    """Return an answer of one image: boxes, classes and scores; for a truth, the score says what counts."""
    padded = [*boxes, *[([0.0] * 4, 0, 0.0)] * (room - len(boxes))]
    return {
        "boxes": torch.tensor([[box for box, _, _ in padded]]),
        "labels": torch.tensor([[label for _, label, _ in padded]]),
        "scores": torch.tensor([[score for _, _, score in padded]]),
        "boxes_valid": torch.tensor([[int(score > 0) for _, _, score in padded]]),
    }


TRUTH = {
    "boxes": torch.tensor([[LEFT, RIGHT, LOW, [0.0] * 4]]),
    "labels": torch.tensor([[0, 1, 0, 0]]),
    "boxes_valid": torch.tensor([[PRESENT, PRESENT, PRESENT, ABSENT]]),
}


def judge(answer: dict[str, torch.Tensor], truth: dict[str, torch.Tensor] = TRUTH) -> tuple[list[int], ...]:
    true, answered = PROBLEM.verdicts(answer, truth)
    return true[0].tolist(), answered[0].tolist()


def wrong(answer: dict[str, torch.Tensor], truth: dict[str, torch.Tensor] = TRUTH) -> dict[str, float]:
    found = PROBLEM.errors(answer, truth)
    assert found.keys() == PROBLEM.mistakes.keys()
    return {name: float(value) for name, value in found.items()}


def test_every_box_is_right_or_wrong_in_one_way():
    answer = columns((LEFT, 0, 0.9), (RIGHT, 0, 0.8), (NOTHING, 1, 0.7), (LEFT, 0, 0.6), (LOW, 1, 0.3))
    true, answered = judge(answer)
    assert true == [Verdict.RIGHT, Verdict.WRONG, Verdict.WRONG, Verdict.HIDDEN]
    assert answered == [
        Verdict.RIGHT,
        Verdict.CONFUSED,  # a cat in place of a dog
        Verdict.WRONG,
        Verdict.CONFUSED,  # found twice
        Verdict.UNSURE,
    ]
    assert wrong(answer) == pytest.approx({"missed": 0.7, "false-alarms": 0.7, "wrong-class": 1.4})
    assert PROBLEM.caption(answer, TRUTH) == "1 of 3 found, 3 wrong"


def test_a_box_beside_an_object_is_a_false_alarm_and_a_miss():
    beside = [0.2, 0.2, 0.6, 0.6]
    answer = columns((beside, 0, 0.9))
    assert wrong(answer) == pytest.approx({"missed": 3.0, "false-alarms": 0.9, "wrong-class": 0.0})
    assert judge(answer)[1][0] == Verdict.WRONG


def test_only_the_best_of_the_unsure_boxes_on_a_missed_object_is_shown():
    answer = columns((LEFT, 0, 0.45), (LEFT, 1, 0.4), (NOTHING, 0, 0.3), (RIGHT, 1, 0.2))
    assert judge(answer)[1] == [Verdict.UNSURE, 0, 0, Verdict.UNSURE, 0]
    assert wrong(answer) == pytest.approx({"missed": 0.55 + 0.8 + 1.0, "false-alarms": 0, "wrong-class": 0})


def test_what_is_undecided_is_neither_missed_nor_found():
    truth = {**TRUTH, "boxes_valid": torch.tensor([[PRESENT, UNDECIDED, ABSENT, ABSENT]])}
    answer = columns((LEFT, 0, 0.9), (RIGHT, 1, 0.8))
    assert judge(answer, truth) == (
        [Verdict.RIGHT, Verdict.EXCUSED, Verdict.HIDDEN, Verdict.HIDDEN],
        [Verdict.RIGHT, Verdict.EXCUSED, 0, 0, 0],
    )
    assert set(wrong(answer, truth).values()) == {0.0}


def test_an_image_without_objects_or_without_answers():
    empty = {**TRUTH, "boxes_valid": torch.full((1, 4), ABSENT)}
    assert wrong(columns((LEFT, 0, 0.9)), empty) == pytest.approx(
        {"missed": 0, "false-alarms": 0.9, "wrong-class": 0}
    )
    assert wrong(columns()) == pytest.approx({"missed": 3, "false-alarms": 0, "wrong-class": 0})
    assert judge(columns()) == ([Verdict.WRONG] * 3 + [0], [0] * 5)
