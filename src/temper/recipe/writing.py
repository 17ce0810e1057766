"""Write choices as the text of a params.yaml. The same choices give the same bytes."""

import json
import re
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any

from temper.recipe.choice import Choice

_PLAIN = re.compile(r"[A-Za-z_./][\w./@-]*")
_WORDS = {"true", "false", "null", "yes", "no", "."}
"""Plain text that YAML, or an older version of YAML, reads as another type."""
_LONGEST = 118
_COMMENT_AT = 34
_INDENT = 2


def write_params(choices: Sequence[Choice], heading: Sequence[str]) -> str:
    """Return the whole file: a heading of comments, then one line per choice.

    The reason of a choice is beside its line, or above it if it is long.
    """
    lines = [f"# {line}" for line in heading]
    open_keys: list[str] = []
    for choice in choices:
        *outer, last = choice.key.split(".")
        shared = 0
        while shared < len(outer) and shared < len(open_keys) and outer[shared] == open_keys[shared]:
            shared += 1
        lines += [f"{' ' * _INDENT * depth}{outer[depth]}:" for depth in range(shared, len(outer))]
        open_keys = outer
        lines += _lines(last, choice, " " * _INDENT * len(outer))
    return "\n".join(lines) + "\n"


def _lines(name: str, choice: Choice, indent: str) -> Iterable[str]:
    if isinstance(choice.value, list) and any(isinstance(item, dict) for item in choice.value):
        yield from _comment(choice.reason, indent)
        yield f"{indent}{name}:"
        yield from (f"{indent}  - {flow(item)}" for item in choice.value)
        return
    line = f"{indent}{name}: {flow(choice.value)}"
    beside = f"{line:<{_COMMENT_AT}}  # {choice.reason}"
    if not choice.reason:
        yield line
    elif len(beside) <= _LONGEST:
        yield beside
    else:
        yield from _comment(choice.reason, indent)
        yield line


def _comment(text: str, indent: str) -> list[str]:
    return [
        f"{indent}# {line}"
        for line in textwrap.wrap(text, _LONGEST - len(indent) - 2, break_on_hyphens=False)
    ]


def flow(value: Any) -> str:
    """Return a value as one line of YAML.

    Example:
        >>> value = {"flip": True, "name": "a b", "widths": [16, 32], "no": "no", "file": "../pets"}
        >>> flow({**value, "from": "package:x"})
        '{flip: true, name: "a b", widths: [16, 32], "no": "no", file: ../pets, from: "package:x"}'
    """
    if isinstance(value, dict):
        return "{" + ", ".join(f"{flow(name)}: {flow(inner)}" for name, inner in value.items()) + "}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _WORDS:
        return value
    # JSON is valid YAML except for numbers like 1e-05, which YAML reads as text unless they have a point.
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(r"^(-?\d+)e", r"\1.0e", text) if isinstance(value, float) else text
