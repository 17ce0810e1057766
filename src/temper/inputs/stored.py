"""Inputs as JSON, as prepare's artifact and the metadata of deployed files hold them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Annotated, Any

from pydantic import Field, TypeAdapter

from temper.inputs.clip_input import ClipInput
from temper.inputs.facts import Facts
from temper.inputs.image_input import ImageInput
from temper.inputs.table_input import TableInput
from temper.inputs.text_input import TextInput

INPUTS = "temper.inputs"
"""Key of a file's metadata for its inputs."""
_ADAPTER: TypeAdapter[Any] = TypeAdapter(
    list[Annotated[ImageInput | TextInput | TableInput | ClipInput, Field(discriminator="input")]]
)


def as_record(facts: Facts) -> list[dict[str, Any]]:
    """Return inputs as JSON values, in their order; `input` is the name of each."""
    return [asdict(each) for each in facts.values()]  # type: ignore[call-overload]


def read_record(value: Sequence[Mapping[str, Any]]) -> Facts:
    """Return the inputs from a value that `as_record` returned."""
    return {each.input: each for each in _ADAPTER.validate_python(value)}


def write_inputs(facts: Facts) -> dict[str, str]:
    """Return the metadata of a file that say what it takes."""
    return {INPUTS: json.dumps(as_record(facts), separators=(",", ":"))}


def read_inputs(metadata: Mapping[str, str]) -> Facts:
    """Return what a file takes. Files from before inputs were written take one image."""
    if INPUTS in metadata:
        return read_record(json.loads(metadata[INPUTS]))
    height, width = json.loads(metadata["temper.size_px"])
    others = {name: f"temper.{name}" for name in ("levels", "background", "fit")}
    image = {
        "input": "image",
        "height_px": int(height),
        "width_px": int(width),
        "channels": int(json.loads(metadata["temper.input"])[-1]),
        **{name: json.loads(metadata[key]) for name, key in others.items() if key in metadata},
    }
    return read_record([image])
