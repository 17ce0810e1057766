"""Notes about trainings that went wrong, from curves with invented numbers."""

import re
from collections.abc import Mapping
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from temper.engine.distributed.ranks import join_ranks
from temper.engine.interface import FitResult
from temper.engine.params import FitParams
from temper.engine.precision import Mode
from temper.engine.training_notes import (
    CHANCE,
    Course,
    Scored,
    of_epoch,
    of_student,
    of_training,
    read_epochs,
)
from temper.problem import Headline
from temper.stages.fit_network import _notes
from temper.stages.validation import validate
from tests.toy import FACTS, TOYS

FIT = FitParams(epochs=10, batch_size=32, lr=0.1, warmup_share=0.2)
COURSE = Course("train", Headline("accuracy"), FIT)
ERROR = Course("train", Headline("error", greater_is_better=False), FIT)


def curve(*scores: float, chance: float | None = 0.5) -> list[Scored]:
    return [Scored(number, score, chance) for number, score in enumerate(scores, 1)]


def said(course: Course, epochs: list[Scored]) -> list[str]:
    """Return all notes that are printed during a training."""
    return [note for count in range(1, len(epochs) + 1) for note in of_epoch(course, epochs[:count])]


def test_a_good_training_is_passed_over_in_silence():
    epochs = curve(0.4, 0.6, 0.7, 0.65, 0.8, 0.75, 0.9)
    assert said(COURSE, epochs) == of_training(COURSE, epochs, 0.1) == []
    assert said(ERROR, curve(0.6, 0.4, 0.3, 0.35, 0.2)) == []
    unknown = curve(0.5, 0.5, 0.9, 0.1, chance=None)
    assert said(COURSE, unknown) == of_training(COURSE, unknown, 0.0) == []


def test_a_score_that_was_never_a_number_is_told():
    assert of_epoch(COURSE, []) == ["train: the validation accuracy is no number so far"]
    assert of_training(COURSE, [], 0.0) == []


def test_chance_is_told_once_while_it_lasts_and_at_the_end():
    epochs = curve(0.5, 0.5, 0.45, 0.5)
    (note,) = said(COURSE, epochs)
    assert re.search(r"epoch 2 .*accuracy is 0\.5000, no better than chance \(0\.5000", note)
    assert re.search(r"fit\.lr \(now 0\.1, sgd .*32\) is most likely too high", note)
    (note,) = of_training(COURSE, epochs, 0.0)
    assert re.match(r"train ended no better than chance: .*accuracy is 0\.5000 in epoch 1;", note)
    assert "Do not use this model" in note
    assert len(said(COURSE, curve(0.5, 0.5, 0.8, 0.5))) == 3  # two notes about chance, and one about the jump
    assert of_training(ERROR, curve(0.6, 0.55, 0.5), 0.0) != []
    assert of_training(ERROR, curve(0.6, 0.55, 0.49), 0.0) == []


def test_half_of_the_lead_lost_within_an_epoch_is_a_jump():
    epochs = curve(0.6, 0.7, 0.9, 0.71, 0.9, 0.7, 0.8, 0.55)
    notes = said(COURSE, epochs)
    # From 0.9 to 0.71, 0.19 of a lead of 0.4 is lost; from 0.9 to 0.7, half of it.
    assert (
        len(notes) == 2
        and "fell from 0.9000 after epoch 5 to 0.7000 after epoch 6. Likely causes" in notes[0]
    )
    assert re.search(r"halve it.*set fit\.average_decay.*raise prepare\.validation_share", notes[0])
    assert "from 0.8000 after epoch 7 to 0.5500 after epoch 8" in notes[1] and "causes" not in notes[1]
    (note,) = of_training(COURSE, epochs, 0.0)
    assert "from 0.8000 after epoch 7 to 0.5500 after epoch 8, the largest of 2 such falls. Likely" in note
    assert len(said(ERROR, [replace(epoch, score=1 - epoch.score) for epoch in epochs])) == 2
    averaged = Course("train", COURSE.headline, replace(FIT, average_decay=0.9))
    assert "set fit.average_decay" not in said(averaged, epochs)[0]


def test_what_falls_while_the_rate_still_climbs_is_no_jump():
    assert said(COURSE, curve(0.9, 0.6, 0.9)) == []
    assert len(said(COURSE, curve(0.9, 0.9, 0.9, 0.6))) == 1


def test_mostly_clipped_steps_are_told():
    assert of_training(COURSE, curve(0.9), 0.5) == []
    (note,) = of_training(COURSE, curve(0.9), 0.75)
    assert re.search(r"the gradients of 75% of the steps .*growing .*clipped", note)
    (note,) = of_training(Course("train", COURSE.headline, replace(FIT, max_grad_norm=2.5)), curve(0.9), 0.75)
    assert (
        "longer than fit.max_grad_norm = 2.5" in note
        and "raise fit.max_grad_norm (or set it to auto)" in note
    )


def test_a_student_that_lost_a_fifth_of_the_lead_is_told():
    course = Course("distill", Headline("accuracy"), FIT)
    assert of_student(course, Scored(7, 0.83, 0.5), 0.9) == []
    (note,) = of_student(course, Scored(7, 0.8, 0.5), 0.9)
    assert re.search(r"0\.8000 in epoch 7, .*teacher's 0\.9000: it lost 25%", note)
    assert "distill.backbone" in note and "10 epochs are too few" in note
    assert of_student(course, Scored(7, 0.4, 0.5), 0.5) == []  # the teacher is no better than chance
    assert of_student(course, Scored(7, 0.4, None), 0.9) == []
    assert len(of_student(ERROR, Scored(7, 0.2, 0.5), 0.1)) == 1


def test_epochs_are_read_from_the_journal():
    entries = [
        {"step": 5, "epoch": 0.5, "values": {"train/loss": 1.0}},
        {"step": 10, "epoch": 1, "values": {"validation/accuracy": 0.7, "validation/chance": 0.3}},
        {"step": 20, "epoch": 2, "values": {"validation/accuracy": float("nan")}},
        {"step": 30, "epoch": 3, "values": {"validation/accuracy": 0.8}},
    ]
    assert read_epochs(entries, COURSE.headline) == [Scored(1, 0.7, 0.3), Scored(3, 0.8, None)]


class Says(nn.Module):
    """A network that returns given outputs, in order."""

    def __init__(self, outputs: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.outputs, self.at = outputs, 0

    def forward(self, inputs: dict[str, Tensor]) -> dict[str, Tensor]:
        start = self.at
        self.at += len(next(iter(inputs.values())))
        return {name: value[start : self.at] for name, value in self.outputs.items()}


@pytest.mark.parametrize("kind", TOYS)
def test_chance_is_measured_alike_for_every_kind(kind: str):
    toy = TOYS[kind]
    inputs, targets = toy.batch(600)
    held = {**{name: torch.from_numpy(each) for name, each in toy.as_sent(inputs).items()}, **targets}
    true = toy.say(targets)
    name = toy.problem.headline.name
    scores = [
        validate(Says(true), toy.problem, held, toy.facts, join_ranks(), seed=seed) for seed in (1, 1, 2)
    ]
    assert scores[0] == scores[1] and scores[0][name] == pytest.approx(1.0)
    assert scores[0][CHANCE] != scores[2][CHANCE] and scores[0][CHANCE] < 0.7
    # Constant answers score exactly like chance.
    alike = {name: value[:1].expand(600, *value.shape[1:]) for name, value in true.items()}
    same = validate(Says(alike), toy.problem, held, toy.facts, join_ranks(), seed=1)
    assert same[CHANCE] == pytest.approx(same[name], abs=1e-12)
    if kind == "multiclass":
        assert scores[0][CHANCE] == pytest.approx(1 / 3, abs=0.06)
        assert torch.bincount(targets["label"]).min() > 150


def test_chance_is_of_the_whole_split_where_images_lie_class_after_class():
    """As folders of classes are listed: a batch of 512 then holds one class, and its truths are all alike."""
    toy = TOYS["multiclass"]
    inputs, targets = toy.batch(1800)
    order = targets["label"].argsort(stable=True)
    held = {"image": inputs["image"].permute(0, 2, 3, 1)[order], "label": targets["label"][order]}
    says = Says(toy.say({"label": held["label"]}))
    scores = validate(says, toy.problem, held, FACTS, join_ranks(), seed=1)
    assert scores[CHANCE] == pytest.approx(1 / 3, abs=0.05)


def test_notes_are_told_and_kept_and_a_good_training_keeps_none(capsys: pytest.CaptureFixture[str]):
    def entries(*scores: float) -> list[dict[str, object]]:
        values = [{"validation/accuracy": score, "validation/chance": 0.5} for score in scores]
        return [{"step": epoch, "epoch": epoch, "values": each} for epoch, each in enumerate(values, 1)]

    course = Course("distill", Headline("accuracy"), FIT)
    result = FitResult({}, 2, 9, Mode("fp32", "contiguous"), 0, 1, 0.9, entries(0.5, 0.6))
    found = _notes(result, course, {"accuracy": 0.9})
    assert [note.split(":")[1].split()[1] for note in found["notes"]] == ["gradients", "student's"]
    assert capsys.readouterr().err.splitlines() == found["notes"]
    good = replace(result, clipped_share=0.0, entries=entries(0.6, 0.85))
    assert _notes(good, course, {"accuracy": 0.9}) == {}
    assert capsys.readouterr().err == ""
