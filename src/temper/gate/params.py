"""Parameters of the gate: the rules by which a model may become champion."""

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Annotated, Literal

from pydantic import Field

from temper.gate.slices import Slice

Reference = Literal["champion", "teacher", "student"]
HEADLINE = "headline"
"""Stands for the one score by which models of the problem are compared."""
COSTS = ("bytes", "params", "macs")
"""Metrics of a file; less is better."""
_BOUNDS = ("min", "max", "max_drop", "min_gain")
SPEEDS = {"latency_ms": False, "images_per_s": True}
"""Metrics of this run's candidates on this machine -> whether more is better."""


@dataclass(frozen=True, kw_only=True)
class Rule:
    """One demand on the quantized model: exactly one of `min`, `max`, `max_drop`, `min_gain`."""

    metric: str
    """A score of the problem (`accuracy`, ...; `headline` is the one models are compared by), `bytes`, `params`, `macs`, `latency_ms` or `images_per_s`."""
    min: float | None = None
    """The measured value must be at least this."""
    max: float | None = None
    """The measured value must be at most this."""
    max_drop: Annotated[float, Field(ge=0)] | None = None
    """Not inferior: the one-sided bound of the difference from `vs` must not be worse than this margin, in the metric's unit."""
    min_gain: Annotated[float, Field(ge=0)] | None = None
    """Better: the one-sided bound of the difference from the champion must be above this, in the metric's unit."""
    vs: Reference = "champion"
    """With whom `max_drop` and `min_gain` compare; `student` is the float student."""
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
                f"min_gain on {self.metric} with vs = {self.vs!r}: only the champion can be gained upon"
            )
        if self.on.each and self.max_drop is None:
            raise ValueError(f"each: true asks for max_drop, found {asked[0]} on {self.metric}")
        if self.metric in (*COSTS, *SPEEDS) and self.on != Slice():
            raise ValueError(f"{self.metric} is of a file, not of images; leave `on` out")
        if self.metric in SPEEDS and self.compares and self.vs == "champion":
            raise ValueError(
                f"{self.metric} is measured for this run's candidates only; use min or max, or vs: teacher"
            )

    def check(
        self,
        *,
        headline: str,
        scores: Collection[str],
        conditions: Mapping[str, Collection[str]],
        strata: Collection[str] | None,
    ) -> None:
        """Refuse to ask what nobody will have measured.

        Args:
            headline: The problem's score by which models are compared.
            scores: All scores of the problem.
            conditions: Those that will be measured, by family.
            strata: Those of the test images; None while nobody knows them.

        Raises:
            ValueError: Names the value, and what there is.
        """
        costs, on = (*COSTS, *SPEEDS), self.on
        if self.metric not in (HEADLINE, *scores, *costs):
            raise _unknown("metric", self.metric, (*scores, HEADLINE, *costs))
        if self.metric not in costs:
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
                "on.each: evaluate.families is empty, so no cell under stress is measured; add a family there"
            )
        if on.stratum is not None and self.metric not in (HEADLINE, headline):
            raise ValueError(
                f"on.stratum = {on.stratum!r}: of a stratum only {headline} is measured, not {self.metric}"
            )
        if on.stratum is not None and strata is not None and on.stratum not in strata:
            raise _unknown("on.stratum", on.stratum, strata)

    @property
    def compares(self) -> bool:
        """Whether it needs another model."""
        return self.max_drop is not None or self.min_gain is not None

    def __str__(self) -> str:
        where = "" if self.metric in (*COSTS, *SPEEDS) else f" {self.on}"
        if self.min is not None:
            return f"{self.metric}{where} at least {self.min:g}"
        if self.max is not None:
            return f"{self.metric}{where} at most {self.max:g}"
        if self.min_gain is not None:
            return f"{self.metric}{where} better than the champion's by more than {self.min_gain:g}"
        return f"{self.metric}{where} not worse than the {self.vs}'s by {self.max_drop:g}"


@dataclass(frozen=True, kw_only=True)
class GateParams:
    """When a new model becomes champion."""

    rules: tuple[Rule, ...]
    """All of them must hold."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of one-sided bounds, and over all cells of a rule with `each`."""

    def __post_init__(self) -> None:
        if not self.rules:
            raise ValueError(
                "rules is empty, and a gate without rules would let everything pass; write at least one, e.g. "
                "{metric: accuracy, max_drop: 0.01, vs: champion}"
            )

    def check(
        self,
        *,
        headline: str,
        scores: Collection[str],
        conditions: Mapping[str, Collection[str]],
        strata: Collection[str] | None,
    ) -> None:
        """Refuse rules that ask what nobody will have measured; as `Rule.check`, and the error names the rule.

        Raises:
            ValueError: Names the key, the value, and what there is.
        """
        for number, rule in enumerate(self.rules):
            try:
                rule.check(headline=headline, scores=scores, conditions=conditions, strata=strata)
            except ValueError as error:
                raise ValueError(f"gate.rules.{number}.{error}") from None


def _unknown(key: str, value: str, known: Collection[str]) -> ValueError:
    near = difflib.get_close_matches(value, known, 1)
    hint = f"; the nearest is {near[0]!r}" if near else ""
    return ValueError(f"{key} = {value!r}: must be one of {', '.join(known)}{hint}")
