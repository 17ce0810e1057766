"""Parts of the measurements, as rules name them."""

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import Field


@dataclass(frozen=True, kw_only=True)
class Slice:
    """A part of the measurements; without any key, all test images, unchanged."""

    stratum: str | None = None
    """Test images of one class (of one stratum, in other problems)."""
    family: Literal["occlusion", "illumination", "noise"] | None = None
    """The mean over the conditions of a family of stress."""
    condition: str | None = None
    """One condition, e.g. `low light` (`docs/stress.md` lists them)."""
    severity: Annotated[int, Field(ge=1, le=5)] | None = None
    """Only this severity; without it, the mean over all severities."""
    each: bool = False
    """Check every condition and severity of the slice by itself: the rule fails if one was shown to be worse
    (with Holm's correction)."""

    def __post_init__(self) -> None:
        stress = [name for name in ("family", "condition", "severity", "each") if getattr(self, name)]
        if self.stratum is not None and stress:
            raise ValueError(
                f"stratum = {self.stratum!r} with {stress[0]}: strata are measured only on unchanged images; "
                "name one of the two"
            )
        if self.family and self.condition:
            raise ValueError(
                f"family = {self.family!r} with condition = {self.condition!r}: "
                "a condition implies its family; name one of the two"
            )
        if self.severity and not (self.family or self.condition or self.each):
            raise ValueError(
                f"severity = {self.severity} alone: it needs a family or a condition; "
                "name one, or set each: true"
            )

    def __str__(self) -> str:
        if self.stratum is not None:
            return f"on {self.stratum}"
        named = self.condition or self.family or ("stress" if self.each else "")
        if not named:
            return "on all test images"
        where = f"under {named}" + (f" of severity {self.severity}" if self.severity else "")
        return f"in every cell {where}" if self.each else where
