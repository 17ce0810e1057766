"""What a deployed file's outputs mean, written into its metadata and read from it without torch."""

import json
from collections.abc import Mapping
from dataclasses import asdict

from temper.fields import Field
from temper.problem import Problem
from temper.problems import load

ANSWER = "temper.answer"
"""Key of a file's metadata for the fields of its answer."""
_KIND, _CLASSES = "temper.kind", "temper.classes"


def write_answer(problem: Problem) -> dict[str, str]:
    """Return the metadata of a file that say what its outputs mean."""
    plain = asdict(Field())
    fields = {
        name: {key: value for key, value in asdict(field).items() if value != plain[key]}
        for name, field in problem.answer.items()
    }
    for field in fields.values():
        if field.get("names") == problem.classes:
            field["names"] = _CLASSES  # a file does not contain a thousand names twice
    return {
        _KIND: problem.kind,
        _CLASSES: json.dumps(problem.classes),
        ANSWER: json.dumps(fields, separators=(",", ":")),
    }


def read_answer(metadata: Mapping[str, str]) -> dict[str, Field]:
    """Return the fields of a file's answer. Files from before they were written are known by their kind."""
    classes = json.loads(metadata[_CLASSES])
    if ANSWER not in metadata:
        return dict(load({"kind": metadata[_KIND], "classes": classes}).answer)
    fields = {}
    for name, field in json.loads(metadata[ANSWER]).items():
        names = classes if field.get("names") == _CLASSES else field.get("names", ())
        mirrored = tuple(field.get("mirrored", ()))
        fields[name] = Field(**{**field, "names": tuple(names), "mirrored": mirrored})
    return fields
