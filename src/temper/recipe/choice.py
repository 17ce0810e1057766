"""One line of a new params.yaml."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Choice:
    """One line of params.yaml."""

    key: str
    """Dotted name of the parameter."""
    value: Any
    reason: str = ""
    """Reason that is written as a comment; keep it short."""
