"""What is wrong with a params.yaml, in words: the key, the value, the rule, and the nearest thing that is known."""

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError

_BRANCH = re.compile(r"literal\[.*\]|constrained-\w+")
"""What pydantic calls the members of a union like `auto` or a whole number, as if they were keys."""


def explain(error: ValidationError, known: Sequence[str]) -> str:
    """All that pydantic found, a clause each.

    Args:
        error: Its error.
        known: Every key that may stand somewhere.
    """
    clauses: dict[str, str] = {}
    for found in error.errors():
        detail: dict[str, Any] = {**found}
        where = [str(part) for part in detail["loc"]]
        if where and _BRANCH.fullmatch(where[-1]):  # what one of several may be
            begin = f"{'.'.join(where[:-1])} = {detail['input']!r}: input should be "
            rule = detail["msg"].removeprefix("Input should be ")
            clauses[begin] = f"{clauses[begin]}, or {rule}" if begin in clauses else f"{begin}{rule}"
        else:
            clause = _explain(detail, where, known)
            clauses[clause] = clause
    return "; ".join(clauses.values())


def _explain(detail: dict[str, Any], where: Sequence[str], known: Sequence[str]) -> str:
    if detail["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        near = difflib.get_close_matches(where[-1], known, n=1, cutoff=0.5)
        hint = f"; the nearest known one is {near[0]!r}" if near else ""
        return f"unknown key {'.'.join(where)}{hint}"
    if detail["type"] in ("missing", "missing_argument"):
        return f"{'.'.join(where)} is missing; docs/params.md says what it takes"
    if detail["type"] == "union_tag_invalid":
        found, tags = (
            detail["ctx"]["tag"],
            [tag.strip("'") for tag in detail["ctx"]["expected_tags"].split(", ")],
        )
        key = detail["ctx"]["discriminator"].strip("'")
        near = difflib.get_close_matches(found, tags, n=1)
        hint = f"; the nearest is {near[0]!r}" if near else ""
        return f"{'.'.join(where)}.{key} = {found!r}: must be one of {', '.join(tags)}{hint}"
    if detail["type"] == "value_error":
        said = detail["msg"].removeprefix("Value error, ")
        return f"{'.'.join(where)}: {said}" if where else said  # of the whole: it names its keys itself
    return f"{'.'.join(where)} = {detail['input']!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def find_infinite(value: Any, where: str = "") -> str | None:
    """The first number that is infinite or none at all, as `key = value`."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{where} = {value}"
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (find_infinite(inner, f"{where}.{name}" if where else str(name)) for name, inner in named)
    return next(filter(None, found), None)


def known_keys(model: type[BaseModel]) -> list[str]:
    """Every key that may stand somewhere in what a model parses."""
    known: dict[str, None] = {}

    def visit(kind: Any) -> None:
        for part in get_args(kind):
            visit(part)
        if is_dataclass(kind) and isinstance(kind, type):
            hints = get_type_hints(kind, include_extras=True)
            for item in fields(kind):
                known[item.name] = None
                visit(hints[item.name])

    for name, info in model.model_fields.items():
        known[name] = None
        visit(info.annotation)
    return list(known)
