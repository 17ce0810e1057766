"""Explain the errors in a params.yaml: the key, the value, the rule, and the nearest known key or value."""

import difflib
import math
import re
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_BRANCH = re.compile(r"literal\[.*\]|constrained-\w+")
"""Names that pydantic gives to members of a union, like `auto` or a whole number, as if they were keys."""


def check_for_dvc(text: str) -> None:
    """Refuse YAML that DVC cannot read, e.g. `{weights: package:some-weights}` without quotes.

    Raises:
        ValueError: Names line and column.
    """
    try:
        YAML(typ="safe").load(text)
    except YAMLError as error:
        raise ValueError(
            "DVC cannot read the file, because its parser is stricter than YAML 1.2: "
            f"{' '.join(str(error).split())}; correct that line (a value that contains ':' needs quotes)"
        ) from error


def explain(error: ValidationError, known: Sequence[str]) -> str:
    """Describe all errors that pydantic found, in one clause each.

    Args:
        error: Pydantic's error.
        known: All keys that are valid somewhere in the file.
    """
    clauses: dict[str, str] = {}
    for found in error.errors():
        detail: dict[str, Any] = {**found}
        where = [str(part) for part in detail["loc"]]
        if where and _BRANCH.fullmatch(where[-1]):  # one member of a union
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
        message = detail["msg"].removeprefix("Value error, ")
        # An error of the whole file names its keys itself.
        return f"{'.'.join(where)}: {message}" if where else message
    return f"{'.'.join(where)} = {detail['input']!r}: {detail['msg'][0].lower()}{detail['msg'][1:]}"


def find_infinite(value: Any, where: str = "") -> str | None:
    """Return the first number that is infinite or NaN, as `key = value`; None if there is none."""
    if isinstance(value, float):
        return None if math.isfinite(value) else f"{where} = {value}"
    named = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    found = (find_infinite(inner, f"{where}.{name}" if where else str(name)) for name, inner in named)
    return next(filter(None, found), None)


def known_keys(model: type[BaseModel]) -> list[str]:
    """Return every key that is valid somewhere in what a model parses."""
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
