"""Invalid rules: each is refused, with the way out."""

from typing import Any

import pytest

from temper.gate.params import GateParams, Rule
from temper.gate.slices import Slice


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({}, "exactly one of min, max, max_drop and min_gain, found none"),
        ({"min": 0.1, "max": 0.2}, "found min and max"),
        ({"min_gain": 0.0, "vs": "teacher"}, "vs = 'teacher' with min_gain on accuracy: .* champion"),
        ({"min": 0.5, "on": {"each": True}}, "each = true with min on accuracy: .*max_drop"),
    ],
)
def test_rules(rule: dict[str, Any], words: str):
    on = {"on": Slice(**rule.pop("on"))} if "on" in rule else {}
    with pytest.raises(ValueError, match=words):
        Rule(metric="accuracy", **rule, **on)


@pytest.mark.parametrize(
    ("on", "words"),
    [
        ({"stratum": "a", "family": "noise"}, "stratum = 'a' with family"),
        ({"condition": "a", "family": "noise"}, "family = 'noise' with condition = 'a'"),
        ({"severity": 2}, "severity = 2 .*name one, or set each: true"),
    ],
)
def test_slices(on: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        Slice(**on)


def test_costs_have_no_slices_and_speeds_no_champion():
    with pytest.raises(ValueError, match=r"metric = 'bytes' with on: .*leave `on` out"):
        Rule(metric="bytes", max=1, on=Slice(family="noise"))
    with pytest.raises(ValueError, match="use min or max, or vs: teacher"):
        Rule(metric="latency_ms", max_drop=0.1)


def test_no_rules_at_all_are_an_error():
    with pytest.raises(ValueError, match=r"rules is empty: .*write at least one"):
        GateParams(rules=())


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (Rule(metric="accuracy", min=0.9), "accuracy on all test images at least 0.9"),
        (Rule(metric="bytes", max=1000), "bytes at most 1000"),
        (
            Rule(metric="accuracy", max_drop=0.01),
            "accuracy on all test images not worse than the champion's by more than 0.01",
        ),
        (
            Rule(metric="accuracy", max_drop=0.02, vs="teacher", on=Slice(family="noise", severity=3)),
            "accuracy under noise of severity 3 not worse than the teacher's by more than 0.02",
        ),
        (
            Rule(metric="accuracy", max_drop=0.02, on=Slice(each=True)),
            "accuracy in every cell under stress not worse than the champion's by more than 0.02",
        ),
        (
            Rule(metric="accuracy", min_gain=0, on=Slice(stratum="shirt")),
            "accuracy on shirt better than the champion's by more than 0",
        ),
    ],
)
def test_rules_read_as_sentences(rule: Rule, words: str):
    assert str(rule) == words


def test_bounds_of_a_score_in_another_unit_may_exceed_one():
    rule = Rule(metric="error", max=3.5)
    known: dict[str, Any] = {"headline": "error", "scores": ("error",), "conditions": {}, "strata": None}
    rule.check(unit="years", **known)
    with pytest.raises(ValueError, match=r"max = 3.5: error is a share from 0 to 1"):
        rule.check(unit="share", **known)
