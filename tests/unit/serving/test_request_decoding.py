"""Pixels as JSON: the fast and the slow way read the same, and refuse the same."""

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from temper.inputs.image_input import ImageInput
from temper.serve_params import ServeParams
from temper.serving import request_decoding
from temper.serving.request_decoding import Refused, read_json

IMAGE = ImageInput(4, 4, 1)
MODEL: Any = SimpleNamespace(facts={"image": IMAGE}, alone=IMAGE)
PARAMS = ServeParams()
WRITERS = (
    lambda value: json.dumps(value),
    lambda value: json.dumps(value, separators=(",", ":")),
    lambda value: json.dumps(value, indent=2),
)
MARKS = ("[", "]", ",", " ", "1", "25", "0", '"', "{", "}", "image", ":", "-", ".", "e", "true", "\n")


def read(body: bytes) -> np.ndarray | int:
    """Return the pixels, or the status of the refusal."""
    try:
        return read_json(body, MODEL, PARAMS)
    except Refused as error:
        return error.status


def read_long(body: bytes) -> np.ndarray | int:
    """Read without the fast way."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(request_decoding, "_read_plain", lambda body: None)
        return read(body)


@given(st.tuples(*[st.integers(1, 5)] * 3), st.integers(0, 2**32 - 1), st.sampled_from(WRITERS))
def test_images_are_read_the_quick_way(shape: tuple[int, int, int], seed: int, write: Any):
    pixels = np.random.default_rng(seed).integers(0, 256, (*shape, 1)).astype(np.uint8)
    body = write({"image": pixels.tolist()}).encode()
    assert np.array_equal(request_decoding._read_plain(body), pixels)
    assert np.array_equal(read(body), read_long(body))


@given(st.data())
def test_what_is_nearly_right_is_read_the_same_both_ways(data: st.DataObject):
    pixels = np.arange(12, dtype=np.uint8).reshape(1, 3, 4, 1)
    text = data.draw(st.sampled_from(WRITERS))({"image": pixels.tolist()})
    for _ in range(data.draw(st.integers(1, 3))):
        place, cut = data.draw(st.integers(0, len(text))), data.draw(st.integers(0, 3))
        text = text[:place] + data.draw(st.sampled_from(("", *MARKS))) + text[place + cut :]
    quick, long = read(text.encode()), read_long(text.encode())
    assert type(quick) is type(long) and np.array_equal(quick, long), text


@pytest.mark.parametrize(
    "text",
    [
        '{"image":[[[12[3]]]]}',
        '{"im age":[[[[1]]]]}',
        '{"image2":[[[[1]]]]}',
        '{"image":[[[[1]]]],"a":[[2]]}',
        '{"image":[[[[1 2]]]]}',
    ],
)
def test_what_only_looks_like_pixels_is_left_to_the_long_way(text: str):
    assert request_decoding._read_plain(text.encode()) is None


@pytest.mark.parametrize(
    ("lists", "shape"),
    [
        ("[]", (1,)),
        ("[,,]", (3,)),
        ("[[],[]]", (2, 1)),
        ("[[[,],[,]],[[,],[,]],[[,],[,]]]", (3, 2, 2)),
        *(
            (text, None)
            for text in ("", "]", "[", "[[,],[]]", "[[]", "[[]]]", "[[],]", "[,[]]", "[[]][[]]", "[-,]")
        ),
    ],
)
def test_a_shape_is_read_from_what_is_left_of_lists(lists: str, shape: tuple[int, ...] | None):
    assert request_decoding._read_shape(lists.encode()) == shape


def test_nothing_is_decoded_when_nobody_waits_any_more():
    with pytest.raises(Refused, match="timeout after 0 of 2 images"):
        request_decoding.decode([{"image": b""}] * 2, MODEL, PARAMS, until=0.0)


def test_true_is_no_pixel():
    assert read(orjson.dumps({"image": [[[[True]]]]})) == 422
