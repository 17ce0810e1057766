"""The gate's decision: compare the measurements with each rule, and give a reason for each result.

The gate judges the quantized model. A comparison allows for chance: "not worse" means that the one-sided
bound of the difference is above -max_drop (non-inferior); "better" means that the bound is above min_gain
and that McNemar's test agrees. All rules must hold, so no rule needs a correction for the other rules. A
rule that checks whether any of many cells was shown to be worse applies Holm's correction.
"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from temper.artifacts import DEPLOYED
from temper.gate.params import COSTS, HEADLINE, SPEEDS, GateParams, Rule
from temper.gate.rating import STRATUM, Rating
from temper.gate.significance import Difference, difference, discordant, holm, mid_p
from temper.gate.slices import Slice
from temper.gate.verdict import Reason, Verdict, say_number
from temper.make_command import make_command

_ROUNDING = 1e-9
"""Tolerance for rounding: a drop equal to the allowed one passes, although binary 0.90 - 0.89 is not
exactly 0.01."""
Constant = tuple[str, Mapping[str, float]]
"""An answer that looks at no image, as text, and its scores by name."""


def judge(
    params: GateParams,
    challenger: Rating,
    *,
    champion: Rating | str | None,
    others: Mapping[str, Rating],
    speeds: Mapping[str, Mapping[str, float]],
    constant: Constant | None = None,
) -> Verdict:
    """Compare the measurements with every rule.

    A model that is no better than the best constant answer never passes: its headline must be higher, or
    another of its scores must be shown to be.

    Args:
        params: The rules.
        challenger: The model that may be released.
        champion: The current champion; None if there is none, text (the reason and the way out) if it
            cannot be rated.
        others: Ratings of `teacher` and `student`.
        speeds: `latency_ms` and `images_per_s` of this run's candidates, the challenger as `quantized`.
        constant: The best answer that looks at no image, and its scores on these images.
    """
    if isinstance(champion, Rating):
        champion = _explain_mismatch(challenger, champion) or champion
    if isinstance(champion, str):
        return Verdict("incomparable", (), champion)
    known = {**others, **({"champion": champion} if champion else {})}
    rules = [
        replace(rule, metric=challenger.question.headline) if rule.metric == HEADLINE else rule
        for rule in params.rules
    ]
    reasons = tuple(_check(rule, params.confidence, challenger, known, speeds) for rule in rules)
    if constant and (useless := _check_constant(challenger, constant, params.confidence)) is not None:
        reasons = (useless, *reasons)
    if any(reason.holds is False for reason in reasons):
        return Verdict("fail", reasons)
    return Verdict("pass" if champion else "bootstrap", reasons)


def _check_constant(challenger: Rating, constant: Constant, confidence: float) -> Reason | None:
    """Return the reason that a model is useless; None if it is better than a constant answer."""
    answer, floors = constant
    question, told = challenger.question, []
    sign = 1 if question.greater_is_better else -1
    for metric, floor in floors.items():
        if cells := challenger.find(metric, Slice()):
            value, samples = challenger.score(cells)
            proof = (
                value if metric == question.headline else np.quantile(sign * samples, 1 - confidence) * sign
            )
            if sign * (proof - floor) > _ROUNDING:
                return None
            told.append(f"{metric} {value:.4f} against {floor:.4f}")
    if not told:
        return None
    rule = f"better than always answering {answer!r}"
    return Reason(rule, False, f"{', '.join(told)}; the model has learned nothing that counts")


def _explain_mismatch(challenger: Rating, champion: Rating) -> str | None:
    """Return why two models cannot be compared; None if they can."""
    ours, theirs = challenger.question, champion.question
    if ours.kind != theirs.kind:
        return f"problem kinds differ: the champion's is {theirs.kind}, the challenger's {ours.kind}"
    if ours.classes != theirs.classes:
        missing, added = (
            [name for name in a if name not in b]
            for a, b in ((theirs.classes, ours.classes), (ours.classes, theirs.classes))
        )
        changes = [
            f"{verb} {', '.join(names)}" for verb, names in (("lacks", missing), ("adds", added)) if names
        ] or ["has the same classes in another order"]
        return f"class lists differ: the challenger {' and '.join(changes)}"
    if challenger.measured_on != champion.measured_on:
        return (
            "champion and challenger were measured on different images; "
            f"run `{make_command('pipeline')}`, which measures both again"
        )
    return None


def _check(
    rule: Rule,
    confidence: float,
    challenger: Rating,
    known: Mapping[str, Rating],
    speeds: Mapping[str, Mapping[str, float]],
) -> Reason:
    if rule.compares and rule.vs == "champion" and "champion" not in known:
        return Reason(str(rule), None, "there is no champion")
    if rule.metric in (*COSTS, *SPEEDS):
        return _check_cost(rule, challenger, known, speeds)
    cells = challenger.find(rule.metric, rule.on)
    if not cells:
        return Reason(
            str(rule),
            False,
            f"{rule.metric} {rule.on} was not measured; available: {_available(rule, challenger)}",
        )
    if broken := [challenger.cells[cell] for cell in cells if not math.isfinite(challenger.values[cell])]:
        return Reason(str(rule), False, f"{rule.metric} under {broken[0].condition} is no number")
    if not rule.compares:
        return _check_bound(rule, challenger.score(cells)[0])
    other = known.get(rule.vs)
    if other is None:
        return Reason(
            str(rule),
            False,
            f"the {rule.vs} was not measured on these images: "
            "only the model of the last run is compared with it",
        )
    pairs = [(cell, _match(other, challenger, cell)) for cell in cells]
    if missing := [challenger.cells[mine] for mine, theirs in pairs if theirs is None]:
        return Reason(
            str(rule),
            False,
            f"{missing[0].metric} under {missing[0].condition} was not measured for the {rule.vs}",
        )
    if broken := [
        other.cells[cell] for _, cell in pairs if cell is not None and np.isnan(other.values[cell])
    ]:
        return Reason(
            str(rule), False, f"{rule.metric} under {broken[0].condition} is no number for the {rule.vs}"
        )
    groups = [[pair] for pair in pairs] if rule.on.each else [pairs]
    better = challenger.question.greater_is_better
    found = [
        difference(
            challenger.score([mine for mine, _ in group]),
            other.score([theirs for _, theirs in group if theirs is not None]),
            greater_is_better=better,
            confidence=confidence,
        )
        for group in groups
    ]
    if rule.on.each:
        return _check_each(rule, found, [challenger.cells[cell] for cell in cells], confidence)
    whole = rule.metric == challenger.question.headline and rule.on == Slice()
    return _compare(rule, found[0], discordant(challenger.alone, other.alone) if whole else None, confidence)


def _available(rule: Rule, rating: Rating) -> str:
    """List what a rule can refer to: scores or, if its score was measured, parts of the images."""
    if rule.metric not in {cell.metric for cell in rating.cells}:
        return ", ".join(dict.fromkeys(cell.metric for cell in rating.cells))
    strata = [cell.family == STRATUM for cell in rating.cells]
    asked = [
        cell for cell, each in zip(rating.cells, strata, strict=True) if each == (rule.on.stratum is not None)
    ]
    return ", ".join(dict.fromkeys(cell.condition for cell in asked))


def _match(other: Rating, challenger: Rating, cell: int) -> int | None:
    return next((number for number, each in enumerate(other.cells) if each == challenger.cells[cell]), None)


def _check_bound(rule: Rule, value: float) -> Reason:
    """Compare a value with its bound."""
    if rule.min is not None:
        return Reason(str(rule), value >= rule.min - _ROUNDING, f"measured {value:.6g}")
    assert rule.max is not None
    return Reason(str(rule), value <= rule.max + _ROUNDING, f"measured {value:.6g}")


def _check_cost(
    rule: Rule, challenger: Rating, known: Mapping[str, Rating], speeds: Mapping[str, Mapping[str, float]]
) -> Reason:
    """Check a rule on a cost. It needs no statistics: a cost does not vary with the choice of test images."""
    if rule.metric in COSTS:
        values = {DEPLOYED: challenger.costs, **{name: rating.costs for name, rating in known.items()}}
    else:
        values = {name: dict(found) for name, found in speeds.items()}
    value = values.get(DEPLOYED, {}).get(rule.metric)
    if value is None:
        return Reason(str(rule), False, f"{rule.metric} was not measured")
    if not rule.compares:
        return _check_bound(rule, value)
    other = values.get(rule.vs, {}).get(rule.metric)
    if other is None:
        return Reason(str(rule), False, f"{rule.metric} of the {rule.vs} was not measured")
    gain = (value - other) * (1 if SPEEDS.get(rule.metric, False) else -1)
    text = f"measured {value:.6g}, the {rule.vs}'s is {other:.6g}"
    if rule.max_drop is not None:
        return Reason(str(rule), gain >= -rule.max_drop - _ROUNDING, text)
    assert rule.min_gain is not None
    return Reason(str(rule), gain > rule.min_gain, text)


def _compare(rule: Rule, found: Difference, images: tuple[int, int] | None, confidence: float) -> Reason:
    """Compare a difference with its margin."""
    text = f"{found.value:+.4f}, at least {found.low:+.4f} with {100 * confidence:g} % confidence"
    if images is not None:
        text += f" ({images[0]} images gained, {images[1]} lost, one-sided mid-p {mid_p(*images):.3g})"
    if rule.max_drop is not None:
        return Reason(str(rule), found.low >= -rule.max_drop - _ROUNDING, text)
    assert rule.min_gain is not None
    agrees = images is None or mid_p(*images) <= 1 - confidence
    return Reason(str(rule), found.low > rule.min_gain and agrees, text)


def _check_each(rule: Rule, found: list[Difference], cells: list[Any], confidence: float) -> Reason:
    """Check that none of many cells was shown to be worse by more than the margin."""
    assert rule.max_drop is not None
    p_values = holm([each.p_worse(rule.max_drop) for each in found])
    worse = sorted((p, number) for number, p in enumerate(p_values) if p <= 1 - confidence)
    if not worse:
        least = min(range(len(found)), key=lambda number: found[number].value)
        return Reason(
            str(rule),
            True,
            f"none of {len(found)} cells was shown to be worse; "
            f"the lowest difference is {_name(cells[least])} {found[least].value:+.4f}",
        )
    named = "; ".join(
        f"{_name(cells[number])} {found[number].value:+.4f} (p {p:.2g})" for p, number in worse[:3]
    )
    return Reason(
        str(rule), False, f"{say_number(len(worse), 'cell')} of {len(found)} shown to be worse: {named}"
    )


def _name(cell: Any) -> str:
    return f"{cell.condition} {cell.severity}"
