"""Decoding of requests: encoded images or raw pixels, as bytes, forms or JSON.

Requests are read within limits, and refused with a reason.
"""

import math
import re
import time
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any

import numpy as np
import orjson

from temper.data.examples import Example, read_example
from temper.data.images.reading import TooLarge, Unreadable
from temper.fields import Frame, about_boxes, by_layout
from temper.inputs.clip_input import ClipInput
from temper.inputs.image_input import ImageInput
from temper.maths.geometry import place_on_canvas
from temper.serve_params import ServeParams
from temper.serving.model_follower import Model

_BEFORE, _BEHIND = (
    re.compile(rb'[ \t\r\n]*{[ \t\r\n]*"image"[ \t\r\n]*:[ \t\r\n]*'),
    re.compile(rb"[ \t\r\n]*}[ \t\r\n]*"),
)
_AXES = 4
_NUMBERS = b"0123456789 \t\r\n"
_APART = bytes.maketrans(b"[]", b"  ")


class Refused(Exception):
    """A request that is refused.

    Args:
        status: HTTP status.
        why: Reason, as text for the client.
    """

    def __init__(self, status: int, why: str) -> None:
        super().__init__(why)
        self.status, self.why = status, why


def decode(
    examples: Sequence[Example], model: Model, params: ServeParams, *, until: float = math.inf
) -> tuple[dict[str, np.ndarray], list[Frame]]:
    """Decode examples to what the model saw in training: packed inputs by name, [examples, ...].

    The client waits only until `until` (time.monotonic()), so no further example is decoded after that.

    Returns:
        The inputs, and where each image lies in the image that was sent.

    Raises:
        Refused: If there are no examples, too many or too large ones, an unreadable one, or no time left.
    """
    if not examples:
        raise Refused(422, "nothing was sent")
    if len(examples) > params.max_images:
        raise Refused(413, f"{len(examples)} examples: a request may contain at most {params.max_images}")
    found = {
        name: np.empty((len(examples), *each.shape), each.example(0).dtype)
        for name, each in model.facts.items()
    }
    frames, word = list[Frame](), "image" if isinstance(model.alone, ImageInput) else "example"
    for number, example in enumerate(examples):
        if time.monotonic() > until:
            raise Refused(503, f"timeout after {number} of {len(examples)} {word}s; send fewer at once")
        try:
            packed, frame = read_example(
                example, model.facts, max_pixels=params.max_pixels, max_side_px=params.max_side_px
            )
        except (Unreadable, ValueError) as error:
            status = 413 if isinstance(error, TooLarge) else 422
            why = str(error).replace("prepare.", "serve.")
            raise Refused(status, f"{word} {number}: {why}") from None
        for name, value in packed.items():
            found[name][number] = value
        frames.append(frame)
    return found, frames


def read_examples(body: bytes) -> list[Example] | None:
    """Return the examples of a JSON body `{"examples": [...]}`; None if it is of another form.

    Raises:
        Refused: If it is not JSON, or the examples are no list.
    """
    if b'"examples"' not in body:
        return None
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(422, f"the body is not valid JSON: {error}") from None
    if not isinstance(value, dict) or "examples" not in value:
        return None
    if not isinstance(value["examples"], list) or not value["examples"]:
        raise Refused(422, "`examples` must be a list with one object per example")
    found: list[Example] = value["examples"]
    return found


def read_json(body: bytes, model: Model, params: ServeParams) -> np.ndarray:
    """Read `{"image": [[[[...]]]]}`: whole numbers 0..255, [images, height, width, channels].

    A single image may leave out the first axis.
    """
    if (pixels := _read_plain(body)) is not None:
        return check(pixels, model, params)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(422, f"the body is not valid JSON: {error}") from None
    name = next(iter(model.facts))
    if not isinstance(value, dict) or name not in value or isinstance(model.alone, ClipInput):
        raise Refused(
            422,
            'the body must be {"examples": [{...}]}, or for images alone {"image": [...]}, with pixels as '
            "lists [images][height][width][channels]",
        )
    return check(_as_pixels(value[name]), model, params)


def _read_plain(body: bytes) -> np.ndarray | None:
    """Read a body that contains only pixels, without making a Python list of every row.

    Without their numbers, the nested lists are a text that gives their shape and is the same for all images
    of a size. The numbers are read as one list. Brackets become spaces, so that the numbers between which
    they stand stay separate.

    Returns None if the body must be read in the general, slower way.
    """
    start, end = body.find(b"["), body.rfind(b"]") + 1
    if start < 0 or not _BEFORE.fullmatch(body, 0, start) or not _BEHIND.fullmatch(body, end):
        return None
    lists = body[start:end]
    shape = _read_shape(lists.translate(None, _NUMBERS))
    if shape is None:
        return None
    try:
        pixels = np.frombuffer(bytes(orjson.loads(b"[%s]" % lists.translate(_APART))), np.uint8)
    except (ValueError, TypeError):  # too large, or not JSON: the slower way reports what is wrong
        return None
    return pixels.reshape(shape) if len(pixels) == math.prod(shape) else None


@lru_cache(64)
def _read_shape(lists: bytes) -> tuple[int, ...] | None:
    """Return the shape of nested lists of equal lengths whose numbers were removed, e.g. `[[,],[,]]`.

    Returns None if the text is not of this form.
    """
    depth = len(lists) - len(lists.lstrip(b"["))
    if depth > _AXES:
        return None
    part, shape = b"", list[int]()
    for start in reversed(range(depth)):
        end = lists.find(part + b"]", start) + len(part) + 1
        count = (end - start - 1) // (len(part) + 1) if part else end - start - 1
        if lists[start:end] != b"[%s]" % b",".join([part] * count):
            return None
        part, shape = lists[start:end], [count, *shape]
    return tuple(shape) if shape and part == lists else None


def _as_pixels(value: Any) -> np.ndarray:
    """Convert nested lists of whole numbers to uint8.

    This is three times as fast as NumPy, which must detect the type of the numbers.
    """
    shape: list[int] = []
    parts: list[Any] = [value]
    while parts and isinstance(parts[0], list):
        if len(shape) == _AXES:
            raise Refused(
                422, f"image: lists are nested deeper than {_AXES}; send [images][height][width][channels]"
            )
        if (
            not all(isinstance(part, list) for part in parts)
            or len(sizes := {len(part) for part in parts}) != 1
        ):
            raise Refused(422, "image: lists of the same level differ in length")
        shape.append(sizes.pop())
        parts = list(chain.from_iterable(parts))
    try:
        if bool in map(type, parts):  # otherwise true would be read as 1
            raise TypeError
        pixels = np.frombuffer(bytes(parts), np.uint8)
    except TypeError:
        raise Refused(422, "image: pixels must be whole numbers from 0 to 255, in non-empty lists") from None
    except ValueError:
        raise Refused(422, "image: pixels must be from 0 to 255") from None
    return pixels.reshape(shape)


def read_least_score(sent: str, model: Model) -> float:
    """Read `least_score` of the query, the smallest score of boxes that are wanted, 0 to 1."""
    boxes = by_layout(model.fields, "boxes")
    if not any("score" in about_boxes(name, model.fields, model.outputs) for name in boxes):
        answers = ", ".join(model.fields)
        raise Refused(
            422, f"least_score={sent[:80]}: the model answers {answers}, no boxes with scores; leave it out"
        )
    try:
        score = float(sent)
    except ValueError:
        score = math.nan
    if not 0 <= score <= 1:
        raise Refused(422, f"least_score={sent[:80]!r} must be a number from 0 to 1")
    return score


def read_raw(body: bytes, shape: str, model: Model, params: ServeParams) -> np.ndarray:
    """Read uint8 pixels, row by row, with the shape of the query: `images,height,width,channels`.

    That of clips is `clips,frames,height,width,channels`. A single one may leave out the first axis.
    """
    try:
        sizes = [int(part) for part in shape.split(",")]
    except ValueError:
        sizes = []
    is_clip = isinstance(model.alone, ClipInput)
    axes = "clips,frames,height,width,channels" if is_clip else "images,height,width,channels"
    if len(sizes) - is_clip not in (3, 4) or any(size < 1 or size > 1 << 31 for size in sizes):
        raise Refused(422, f"shape={shape[:80]!r} must be {axes}, each at least 1")
    count = 1
    for size in sizes:
        count *= size
    if count != len(body):
        raise Refused(422, f"shape={shape[:80]}: needs {count} bytes, but the body has {len(body)}")
    return check(np.frombuffer(body, np.uint8).reshape(sizes), model, params)


def check(pixels: np.ndarray, model: Model, params: ServeParams) -> np.ndarray:
    """Check raw pixels against the limits, and return them as a batch."""
    seen = model.alone
    if seen is None:
        raise Refused(
            422,
            f'the model takes {", ".join(model.facts)}; send JSON {{"examples": [{{...}}]}} with a value '
            "for each, or a form",
        )
    what, frames = ("clips", (seen.frames,)) if isinstance(seen, ClipInput) else ("images", ())
    if pixels.ndim == len(frames) + 3:
        pixels = pixels[None]
    count, *inner = pixels.shape
    if len(inner) != len(frames) + 3 or (*inner[:-3], inner[-1]) != (*frames, seen.channels):
        axes = ", ".join(map(str, (what, *frames, "height", "width", seen.channels)))
        raise Refused(422, f"pixels of shape {list(pixels.shape)}; the model takes [{axes}]")
    height, width = inner[-3:-1]
    if count > params.max_images:
        raise Refused(413, f"{count} {what}: a request may contain at most {params.max_images}")
    (tall, wide), _ = place_on_canvas(height, width, seen.size_px, seen.fit)
    if math.prod(frames) * tall * wide > params.max_pixels or max(height, width) > params.max_side_px:
        raise Refused(
            413,
            f"{width}x{height} px: an image may have at most {params.max_pixels} pixels with its borders, "
            f"and {params.max_side_px} px on a side",
        )
    return pixels
