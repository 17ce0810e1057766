"""Reads examples from outside (requests, the inbox) as prepare reads those of the data set.

An example is a JSON object with a value for each input: an image or a clip as the base64 of its file, a text,
numbers by name. In Python, an image or a clip may also be the bytes of its file.
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from temper.data.images.clip_reading import read_clip
from temper.data.images.reading import fit_channels, unify
from temper.fields import Frame
from temper.inputs.clip_input import ClipInput
from temper.inputs.facts import Facts, Input, file_of
from temper.inputs.image_input import ImageInput

Example: TypeAlias = Mapping[str, Any]
_NOT_SEEN = Frame(1, 1)


def read_example(
    example: Example, facts: Facts, *, max_pixels: int, max_side_px: int
) -> tuple[dict[str, np.ndarray], Frame]:
    """Return the inputs of an example as they are packed, and where the seen image lies in the sent one.

    Args:
        example: The example.
        facts: The inputs that are needed.
        max_pixels: Largest number of pixels of an image, or of all frames of a clip.
        max_side_px: Largest width or height of an image.

    Raises:
        Unreadable: If the image or clip cannot be read or is too large.
        ValueError: If an input is missing, unknown or of the wrong kind; names it.
    """
    if not isinstance(example, Mapping):
        raise ValueError(f"an example must be an object with {', '.join(facts)}")
    if wrong := [name for name in facts if name not in example] or [*example.keys() - facts.keys()]:
        what = "unknown" if wrong[0] in example else "missing"
        raise ValueError(f"the input {wrong[0]!r} is {what}: an example has {', '.join(facts)}")
    packed, frame = {}, _NOT_SEEN
    for name, each in facts.items():
        value = example[name]
        if each.from_file and isinstance(value, str | bytes):
            raw = _decoded(value, name)
            packed[name], frame = _read_file(raw, each, max_pixels=max_pixels, max_side_px=max_side_px)
            continue
        try:
            packed[name] = each.decode(value.decode() if isinstance(value, bytes) else value)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    return packed, frame


def _read_file(raw: bytes, given: Input, *, max_pixels: int, max_side_px: int) -> tuple[np.ndarray, Frame]:
    """Return a file as its input is packed, and where an image lies in the whole one."""
    if isinstance(given, ClipInput):
        clip = read_clip(raw, given, max_pixels=max_pixels, max_side_px=max_side_px)
        return clip.pixels, _NOT_SEEN
    assert isinstance(given, ImageInput), "only images and clips are read from files"
    return read_image(raw, given, max_pixels=max_pixels, max_side_px=max_side_px)


def read_image(
    raw: bytes, image: ImageInput, *, max_pixels: int, max_side_px: int
) -> tuple[np.ndarray, Frame]:
    """Return an encoded image as it is packed, and where it lies in the whole one.

    Raises:
        Unreadable: If it is not an image, is damaged, or is too large.
    """
    pixels, frame = unify(
        raw,
        height_px=image.height_px,
        width_px=image.width_px,
        max_pixels=max_pixels,
        max_side_px=max_side_px,
        levels=image.levels,
        background=image.background,
        fit=image.fit,
    )
    return fit_channels(pixels, image.channels), frame


def list_examples(paths: Sequence[Path], facts: Facts) -> Iterator[Example]:
    """Yield the examples in files: an image or clip each, or one JSON object per line.

    A damaged one is empty.
    """
    filed = file_of(facts)
    for path in paths:
        try:
            raw = path.read_bytes()
        except OSError:
            yield {}
            continue
        if not raw.lstrip().startswith(b"{"):
            yield {} if filed is None else {filed: raw}
            continue
        for line in raw.splitlines():
            try:
                yield json.loads(line)
            except ValueError:
                yield {}


def count_listed(paths: Sequence[Path]) -> int:
    """Return the number of examples in files: one in each image, and one in each line of JSON.

    A file that is gone, or cannot be opened, counts as one: `list_examples` yields an empty example for it.
    """
    found = 0
    for path in paths:
        try:
            with path.open("rb") as stream:
                lined = stream.readline().lstrip().startswith(b"{")
                found += 1 + sum(bool(line.strip()) for line in stream) if lined else 1
        except OSError:
            found += 1
    return found


def write_example(example: Example) -> bytes:
    """Return an example as a line of JSON."""
    plain = {
        name: base64.b64encode(value).decode() if isinstance(value, bytes) else value
        for name, value in example.items()
    }
    return json.dumps(plain, ensure_ascii=False).encode() + b"\n"


def _decoded(value: str | bytes, name: str) -> bytes:
    if isinstance(value, bytes):
        return value
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"{name}: expected the base64 of a file") from None
