"""The gate's verdict on a model, and the reasons for it, in words and as a record."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Outcome = Literal["pass", "fail", "bootstrap", "incomparable"]


@dataclass(frozen=True)
class Reason:
    """The result of one rule."""

    rule: str
    holds: bool | None
    """None if the rule could not be checked because there is no champion."""
    found: str
    """What was measured, as text."""

    def __str__(self) -> str:
        mark = {True: "holds", False: "FAILS", None: "not checked"}[self.holds]
        return f"{mark}: {self.rule}: {self.found}"


@dataclass(frozen=True)
class Verdict:
    """The gate's decision."""

    outcome: Outcome
    """`bootstrap`: there is no champion yet; `incomparable`: the champion cannot be compared with the
    challenger."""
    reasons: tuple[Reason, ...]
    why: str = ""
    """For `incomparable`: the obstacle, and the way out."""

    @property
    def opens(self) -> bool:
        """Whether the model may become champion."""
        return self.outcome in ("pass", "bootstrap")

    @property
    def sentence(self) -> str:
        """The verdict in one line."""
        failed = [f"{reason.rule}: {reason.found}" for reason in self.reasons if reason.holds is False]
        if self.outcome == "incomparable":
            return f"incomparable: {self.why}"
        if self.outcome == "fail":
            return f"fail: {'; '.join(failed)}"
        held = sum(reason.holds is True for reason in self.reasons)
        if self.outcome == "bootstrap":
            rules = f"{held} of {say_number(len(self.reasons), 'rule')}"
            return f"bootstrap: there was no champion; {rules} could be checked and held"
        return f"pass: {say_number(held, 'rule')} held; " + "; ".join(reason.found for reason in self.reasons)

    def words(self) -> str:
        """Return the verdict and its list of reasons, for the terminal."""
        return "\n".join(
            [
                self.sentence if self.outcome == "incomparable" else self.outcome,
                *(f"  {reason}" for reason in self.reasons),
            ]
        )

    def record(self) -> dict[str, Any]:
        """Return the verdict as JSON values."""
        return asdict(self)


def say_number(count: int, noun: str) -> str:
    """Return a count and its noun, in the plural unless it is one."""
    return f"{count} {noun}{'' if count == 1 else 's'}"
