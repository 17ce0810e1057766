"""Answers of a model as JSON: what its outputs mean is said by the fields in its metadata, never guessed."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import orjson

from temper.fields import PRESENT, VALID, Field, Frame, valid_column
from temper.maths.geometry import as_sent, map_as_sent

_RAGGED = ("boxes", "points", "sequence")


def as_json(answers: Mapping[str, np.ndarray], fields: Mapping[str, Field], frames: Sequence[Frame]) -> bytes:
    """Format one answer per image.

    Measurements are given by name, with their unit. Probabilities of classes are followed by `class` and
    `score`, or by `classes` where several may be true. Boxes and points are in pixels of the image that was
    sent, upright; a map covers that image, and keeps the size in which the model made it.
    Entries that do not count are left out, and numbers of a sequence become their names. If several outputs
    have classes, `class` and the like begin with the name of the output.

    Args:
        answers: Outputs by name, [images, ...].
        fields: What the outputs contain; outputs without a field are features and stay as they are.
        frames: Where each image that the model saw lies in the image that was sent.
    """
    named = [name for name, field in fields.items() if field.names and field.layout == "value"]
    found: list[dict[str, Any]] = [{} for _ in frames]
    for name, values in answers.items():
        if name.removesuffix(VALID) in fields and name.endswith(VALID):
            continue
        field = fields.get(name, Field())
        prefix = "" if len(named) == 1 else f"{name}_"
        for number, answer in enumerate(found):
            value = values[number]
            if field.layout in ("boxes", "points"):
                value = as_sent(value.reshape(-1, 2), frames[number]).reshape(value.shape)
            if field.layout == "map":
                value = map_as_sent(value, frames[number])
            if field.layout in _RAGGED:
                counts = _counts(name, answers, number, len(value))
                if field.layout == "points" and field.names:
                    named_places = zip(field.names, value.tolist(), counts, strict=True)
                    answer[name] = {point: place for point, place, counted in named_places if counted}
                    continue
                value = value[counts]
            answer |= _name(name, field, value, prefix)
    return orjson.dumps(found, option=orjson.OPT_SERIALIZE_NUMPY)


def _name(name: str, field: Field, value: np.ndarray, prefix: str) -> dict[str, Any]:
    """Return an output and what its numbers are called."""
    if not field.names or field.layout == "map":
        return {name: value}
    if field.unit is not None and field.layout == "value":
        measured: dict[str, Any] = {name: dict(zip(field.names, value.tolist(), strict=True))}
        return measured | ({f"{prefix}unit": field.unit} if field.unit else {})
    if value.dtype.kind in "iu":
        return {name: _names_of(field, value)}
    if field.layout != "value":
        return {name: value}
    if field.threshold is None:
        best = int(value.argmax())
        return {name: value, f"{prefix}class": field.names[best], f"{prefix}score": float(value[best])}
    chosen = np.flatnonzero(value >= field.threshold).tolist()
    return {name: value, f"{prefix}classes": [field.names[place] for place in chosen]}


def _names_of(field: Field, numbers: np.ndarray) -> Any:
    return (
        field.names[int(numbers)] if numbers.ndim == 0 else [field.names[each] for each in numbers.tolist()]
    )


def _counts(name: str, answers: Mapping[str, np.ndarray], number: int, size: int) -> np.ndarray:
    """Return which entries of a ragged output count."""
    own = valid_column(name, answers)
    return np.ones(size, bool) if own is None else np.asarray(answers[own][number] == PRESENT)
