"""The gate's verdict in every case."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from temper.gate.decision import judge
from temper.gate.params import GateParams, Rule
from temper.gate.rating import Question, Rating
from temper.gate.slices import Slice
from temper.gate.verdict import Verdict
from tests.unit.gate.toy_ratings import QUESTION, rating

STRESS = {("noise", f"noise {number}", severity): 0.8 for number in range(5) for severity in (1, 2, 3)}
SPEEDS = {
    "quantized": {"latency_ms": 0.2, "images_per_s": 9000.0},
    "teacher": {"latency_ms": 0.3, "images_per_s": 5000.0},
}


def ask(*rules: dict[str, Any], challenger: Any = None, champion: Any = None, others: Any = None) -> Any:
    params = GateParams(rules=tuple(Rule(**rule) for rule in rules))
    return judge(
        params, challenger or rating("new", 0.9), champion=champion, others=others or {}, speeds=SPEEDS
    )


@pytest.mark.parametrize(
    ("ours", "theirs", "rule", "outcome"),
    [
        (0.90, 0.90, {"max_drop": 0.0}, "pass"),
        (0.90, 0.90, {"min_gain": 0.0}, "fail"),
        (0.895, 0.90, {"max_drop": 0.01}, "pass"),
        # The drop is within the margin, but the test images do not show it.
        (0.895, 0.90, {"max_drop": 0.005}, "fail"),
        (0.88, 0.90, {"max_drop": 0.01}, "fail"),
        (0.93, 0.90, {"min_gain": 0.0}, "pass"),
        (0.93, 0.90, {"min_gain": 0.02}, "pass"),
        (0.93, 0.90, {"min_gain": 0.03}, "fail"),
        (0.90, 0.90, {"min": 0.89}, "pass"),
        (0.90, 0.90, {"min": 0.95}, "fail"),
    ],
)
def test_verdicts_against_a_champion(ours: float, theirs: float, rule: dict[str, float], outcome: str):
    found = ask(
        {"metric": "accuracy", **rule}, challenger=rating("new", ours), champion=rating("old", theirs)
    )
    assert found.outcome == outcome, found.words()
    assert found.opens is (outcome == "pass")


def test_without_a_champion_what_can_be_asked_must_hold():
    found = ask({"metric": "accuracy", "min": 0.5}, {"metric": "accuracy", "max_drop": 0.01})
    assert (found.outcome, found.opens) == ("bootstrap", True)
    assert [reason.holds for reason in found.reasons] == [True, None]
    assert found.sentence.startswith("bootstrap: there was no champion; 1 of 2 rules ")
    assert ask({"metric": "accuracy", "min": 0.95}).outcome == "fail"


def test_a_missing_metric_fails_and_is_named():
    found = ask({"metric": "f1", "min": 0.5})
    assert (
        found.outcome == "fail"
        and "f1 on all test images was not measured; available: accuracy" in found.sentence
    )
    found = ask({"metric": "accuracy", "min": 0.5, "on": Slice(stratum="hat")})
    assert "accuracy on hat was not measured; available: coat, shirt" in found.sentence
    found = ask({"metric": "accuracy", "max_drop": 0.1, "vs": "teacher"})
    assert found.outcome == "fail" and "the teacher was not measured" in found.sentence


def test_a_champion_that_cannot_be_measured_is_incomparable():
    found = ask({"metric": "accuracy", "min": 0.5}, champion="its file is missing; put it back")
    assert (found.outcome, found.opens) == ("incomparable", False)
    assert found.sentence == "incomparable: its file is missing; put it back"


@pytest.mark.parametrize(
    ("question", "words"),
    [
        (replace(QUESTION, kind="multilabel"), "champion's is multilabel, the challenger's multiclass"),
        (replace(QUESTION, classes=("coat",)), "class lists differ: the challenger adds shirt"),
        (replace(QUESTION, classes=("coat", "hat")), "the challenger lacks hat and adds shirt"),
        (replace(QUESTION, classes=("shirt", "coat")), "in another order"),
    ],
)
def test_another_question_is_incomparable_and_named(question: Question, words: str):
    found = ask({"metric": "accuracy", "min": 0.5}, champion=rating("old", 0.9, question=question))
    assert found.outcome == "incomparable" and words in found.sentence


def test_other_images_are_incomparable():
    found = ask(
        {"metric": "accuracy", "min": 0.5}, champion=replace(rating("old", 0.9), measured_on="others")
    )
    assert found.outcome == "incomparable" and "different images" in found.sentence


def test_references_are_the_teacher_and_the_float_student():
    others = {"teacher": rating("t", 0.92), "student": rating("s", 0.9)}
    rules = [{"metric": "accuracy", "max_drop": 0.01, "vs": name} for name in others]
    found = ask(*rules, others=others)
    assert [reason.holds for reason in found.reasons] == [False, True]


def test_slices_are_judged_by_themselves():
    ours = rating("new", 0.9, stress={**STRESS, ("noise", "noise 0", 1): 0.5})
    theirs = rating("old", 0.9, stress=STRESS)
    cell = Slice(condition="noise 0", severity=1)
    found = ask(
        {"metric": "accuracy", "max_drop": 0.05, "on": cell},
        {"metric": "accuracy", "max_drop": 0.05, "on": Slice(stratum="shirt")},
        {"metric": "accuracy", "max_drop": 0.05, "on": Slice(family="noise")},
        challenger=ours,
        champion=theirs,
    )
    assert [reason.holds for reason in found.reasons] == [False, True, True]
    assert (
        "accuracy under noise 0 of severity 1 not worse than the champion's by more than 0.05: -0.29"
        in found.sentence
    )


def test_of_many_cells_the_one_that_lost_is_found():
    theirs = rating("old", 0.9, stress=STRESS)
    rule = {"metric": "accuracy", "max_drop": 0.02, "on": Slice(each=True)}
    lost = {**STRESS, ("noise", "noise 3", 2): 0.7}
    found = ask(rule, challenger=rating("new", 0.9, stress=lost), champion=theirs)
    assert found.outcome == "fail" and "1 cell of 15 shown to be worse: noise 3 2 -0.09" in found.sentence
    same = ask(rule, challenger=rating("new", 0.9, stress=STRESS), champion=theirs)
    assert same.outcome == "pass" and "none of 15 cells was shown to be worse" in same.sentence


def test_cells_that_differ_by_luck_alone_are_let_through():
    rng = np.random.default_rng(0)
    rule = {"metric": "accuracy", "max_drop": 0.0, "on": Slice(each=True)}
    theirs = rating("old", 0.9, stress=STRESS, seed=1)
    failures = 0
    for _ in range(20):
        lucky = dict.fromkeys(STRESS, 0.8)
        failures += not ask(
            rule,
            challenger=rating("new", 0.9, stress=lucky, seed=int(rng.integers(1 << 30))),
            champion=theirs,
        ).opens
    # At 5 % each, five of twenty fail by chance once in four hundred times.
    assert failures <= 4


@pytest.mark.parametrize(
    ("rule", "holds"),
    [
        ({"metric": "bytes", "max": 1000}, True),
        ({"metric": "bytes", "max": 999}, False),
        ({"metric": "bytes", "max_drop": 0}, True),
        ({"metric": "bytes", "min_gain": 1}, False),
        ({"metric": "macs", "max": 1e9}, False),  # not measured
        ({"metric": "latency_ms", "max": 0.25}, True),
        ({"metric": "images_per_s", "min": 10_000}, False),
        ({"metric": "latency_ms", "max_drop": 0.0, "vs": "teacher"}, True),
        ({"metric": "images_per_s", "max_drop": 0.0, "vs": "teacher"}, True),
        ({"metric": "latency_ms", "max_drop": 0.0, "vs": "student"}, False),
    ],
)
def test_costs(rule: dict[str, Any], holds: bool):
    assert ask(rule, champion=rating("old", 0.9)).reasons[0].holds is holds


def test_the_headline_goes_by_that_name_too():
    found = ask({"metric": "headline", "max_drop": 0.0}, champion=rating("old", 0.9))
    assert found.outcome == "pass" and found.reasons[0].rule.startswith("accuracy on all test images")


def test_where_less_is_better_signs_are_turned():
    error = replace(QUESTION, headline="error", greater_is_better=False)
    ours, theirs = rating("new", 0.3, question=error), rating("old", 0.2, question=error)
    rule = {"metric": "error", "max_drop": 0.05}
    assert ask(rule, challenger=ours, champion=theirs).outcome == "fail"
    assert ask(rule, challenger=theirs, champion=ours).outcome == "pass"


def beside_constant(model: Rating, scores: dict[str, float]) -> Verdict:
    params = GateParams(rules=(Rule(metric="accuracy", min=0.5),))
    return judge(params, model, champion=None, others={}, speeds={}, constant=("shirt", scores))


@pytest.mark.parametrize(("floor", "outcome"), [(0.9, "fail"), (0.95, "fail"), (0.89, "bootstrap")])
def test_a_model_that_is_no_better_than_a_constant_answer_is_no_champion(floor: float, outcome: str):
    model = rating("new", 0.9)
    value = model.score(model.find("accuracy", Slice()))[0]
    found = beside_constant(model, {"accuracy": floor + value - 0.9})
    assert found.outcome == outcome
    if outcome == "fail":
        assert "better than always answering 'shirt': accuracy" in found.sentence
        assert "the model has learned nothing that counts" in found.sentence


@pytest.mark.parametrize(("gap", "outcome"), [(0.4, "bootstrap"), (0.002, "fail")])
def test_a_model_for_rare_classes_may_be_right_less_often_than_a_constant_answer(gap: float, outcome: str):
    """Its headline is lower, but it is shown to be better by another score, if the images suffice."""
    model = rating("new", 0.9)
    floor = model.score(model.find("accuracy", Slice()))[0] - gap
    cells = tuple(replace(cell, metric="balanced_accuracy") for cell in model.cells)
    both = replace(
        model,
        cells=(*model.cells, *cells),
        values=np.tile(model.values, 2),
        samples=np.tile(model.samples, (2, 1)),
    )
    found = beside_constant(both, {"accuracy": 0.95, "balanced_accuracy": floor})
    assert found.outcome == outcome
    if outcome == "fail":
        assert re.search(
            r"accuracy 0\.9\d* against 0.9500, balanced_accuracy 0\.9\d* against", found.sentence
        )


def test_a_score_that_is_no_number_never_holds():
    fine, broken = rating("new", 0.9, stress=STRESS), rating("old", 0.9, stress=STRESS)
    cell = next(number for number, each in enumerate(broken.cells) if each.condition == "noise 2")
    values, samples = broken.values.copy(), broken.samples.copy()
    values[cell], samples[cell] = np.nan, np.nan
    broken = replace(broken, values=values, samples=samples)
    rule = {"metric": "accuracy", "max_drop": 0.5, "on": Slice(each=True)}
    assert ask(rule, challenger=fine, champion=fine).outcome == "pass"
    found = ask(rule, challenger=broken, champion=fine)
    assert found.outcome == "fail" and "accuracy under noise 2 is no number" in found.words()
    found = ask(rule, challenger=fine, champion=broken)
    assert found.outcome == "fail" and "is no number for the champion" in found.words()
    low = {"metric": "accuracy", "min": 0.1, "on": Slice(condition="noise 2", severity=1)}
    assert ask(low, challenger=broken).outcome == "fail"
