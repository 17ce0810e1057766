"""Parameters of the gate: the rules by which a model may become champion."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Literal

from pydantic import Field

from temper.gate.slices import Slice
from temper.problem import SHARE

Reference = Literal["champion", "teacher", "student"]
HEADLINE = "headline"
"""Stands for the score by which models of the problem are compared."""
COSTS = ("bytes", "params", "macs")
"""Metrics of a file; lower is better."""
_BOUNDS = ("min", "max", "max_drop", "min_gain")
SPEEDS = {"latency_ms": False, "images_per_s": True}
"""Metrics of this run's candidates on this machine -> whether higher is better."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One requirement on the quantized model: exactly one of `min`, `max`, `max_drop`, `min_gain`."""

    metric: str
    """A score of the problem (`accuracy`, ...; `headline` is the score by which models are compared),
    `bytes`, `params`, `macs`, `latency_ms` or `images_per_s`."""
    min: float | None = None
    """The measured value must be at least this."""
    max: float | None = None
    """The measured value must be at most this."""
    max_drop: Annotated[float, Field(ge=0)] | None = None
    """Not inferior: the one-sided bound of the difference from `vs` must not be worse than this margin, in
    the metric's unit."""
    min_gain: Annotated[float, Field(ge=0)] | None = None
    """Better: the one-sided bound of the difference from the champion must be above this value, in the
    metric's unit."""
    vs: Reference = "champion"
    """The model with which `max_drop` compares; `student` is the float student. `min_gain` compares only with
    the champion."""
    on: Slice = field(default_factory=Slice)

    def __post_init__(self) -> None:
        asked = [name for name in _BOUNDS if getattr(self, name) is not None]
        if len(asked) != 1:
            found = " and ".join(asked) or "none"
            raise ValueError(
                f"a rule on {self.metric} takes exactly one of min, max, max_drop and min_gain, found {found}"
            )
        if self.min_gain is not None and self.vs != "champion":
            raise ValueError(
                f"vs = {self.vs!r} with min_gain on {self.metric}: min_gain compares only with the champion; "
                "leave vs out, or use max_drop"
            )
        if self.on.each and self.max_drop is None:
            raise ValueError(
                f"on.each = true with {asked[0]} on {self.metric}: each needs max_drop; "
                f"write max_drop instead of {asked[0]}, or leave each out"
            )
        if self.metric in (*COSTS, *SPEEDS) and self.on != Slice():
            raise ValueError(
                f"metric = {self.metric!r} with on: the metric does not depend on images; leave `on` out"
            )
        if self.metric in SPEEDS and self.compares and self.vs == "champion":
            raise ValueError(
                f"metric = {self.metric!r} with vs = 'champion': the metric is measured only for this run's "
                "candidates; use min or max, or vs: teacher"
            )

    def check(
        self,
        *,
        headline: str,
        unit: str,
        scores: Collection[str],
        conditions: Mapping[str, Collection[str]],
        strata: Collection[str] | None,
    ) -> None:
        """Check that the rule refers only to what will be measured.

        Args:
            headline: The problem's score by which models are compared.
            unit: Its unit.
            scores: All scores of the problem.
            conditions: Conditions that will be measured, by family.
            strata: Strata of the test images; None as long as they are unknown.

        Raises:
            ValueError: If it does not; names the value and the possible ones.
        """
        costs, on = (*COSTS, *SPEEDS), self.on
        if self.metric not in (HEADLINE, *scores, *costs):
            raise _unknown("metric", self.metric, (*scores, HEADLINE, *costs))
        if self.metric not in costs and unit == SHARE:
            for name in _BOUNDS:
                if (value := getattr(self, name)) is not None and value > 1:
                    raise ValueError(
                        f"{name} = {value:g}: {self.metric} is a share from 0 to 1; is {value / 100:g} meant?"
                    )
        if on.family and on.family not in conditions:
            raise ValueError(
                f"on.family = {on.family!r}: evaluate.families leaves it out; add it there, or drop the rule"
            )
        if on.condition and on.condition not in (known := [*chain(*conditions.values())]):
            raise _unknown("on.condition", on.condition, known)
        if on.each and not conditions:
            raise ValueError(
                "on.each = true: evaluate.families is empty, so no cell under stress is measured; "
                "add a family there"
            )
        if on.stratum is not None and self.metric not in (HEADLINE, headline):
            raise ValueError(
                f"on.stratum = {on.stratum!r}: only {headline} is measured per stratum, not {self.metric}; "
                f"set metric: {headline}"
            )
        if on.stratum is not None and strata is not None and on.stratum not in strata:
            raise _unknown("on.stratum", on.stratum, strata)

    @property
    def compares(self) -> bool:
        """Whether the rule needs another model."""
        return self.max_drop is not None or self.min_gain is not None

    def __str__(self) -> str:
        where = "" if self.metric in (*COSTS, *SPEEDS) else f" {self.on}"
        if self.min is not None:
            return f"{self.metric}{where} at least {self.min:g}"
        if self.max is not None:
            return f"{self.metric}{where} at most {self.max:g}"
        if self.min_gain is not None:
            return f"{self.metric}{where} better than the champion's by more than {self.min_gain:g}"
        return f"{self.metric}{where} not worse than the {self.vs}'s by more than {self.max_drop:g}"


@dataclass(frozen=True, kw_only=True)
class GateParams:
    """When a new model becomes champion."""

    rules: tuple[Rule, ...]
    """Rules of the gate; all of them must hold."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of the one-sided bounds, and over all cells of a rule with `each`."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError(
                "rules is empty: a gate without rules would let every model pass; write at least one, e.g. "
                "{metric: accuracy, max_drop: 0.01, vs: champion}"
            )

    def check(
        self,
        *,
        headline: str,
        unit: str,
        scores: Collection[str],
        conditions: Mapping[str, Collection[str]],
        strata: Collection[str] | None,
    ) -> None:
        """Check every rule with `Rule.check`.

        Raises:
            ValueError: If a rule refers to something that will not be measured; names the key, the value and
                the possible ones.
        """
        for number, rule in enumerate(self.rules):
            try:
                rule.check(headline=headline, unit=unit, scores=scores, conditions=conditions, strata=strata)
            except ValueError as error:
                raise ValueError(f"gate.rules.{number}.{error}") from None


def _unknown(key: str, value: str, known: Collection[str]) -> ValueError:
    near = difflib.get_close_matches(value, known, 1)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return ValueError(f"{key} = {value!r}: must be one of {', '.join(known)}{hint}")
