"""A box round what is bright encloses it on the whole way: EXIF, resizing with or without borders, decoding
in training, the exported file and the server's answer, in pixels of the image that was sent."""

import io
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any, get_args

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from torch import Tensor, nn

from temper.compress.export import Deployable, export
from temper.data.images.encoded import Encoded, EncodedWriter, encode
from temper.data.images.masks import read_mask, resize_mask
from temper.data.images.orientation import turned
from temper.data.images.reading import TooLarge, open_plain, resize, unify
from temper.fields import Field, Fit
from temper.inputs.image_input import ImageInput
from temper.maths.geometry import as_seen, frame_of, map_as_sent
from temper.serving.answers import as_json

SIZE = (48, 64)
"""Height and width of the unified images."""
LIMITS = {"max_pixels": 10_000_000, "max_side_px": 10_000}
ANSWER = {"boxes": Field("boxes"), "bright": Field("map", names=("dark", "bright"))}


class _FindBright(nn.Module):
    """A network that finds the box of what is bright, as shares of the image that it sees."""

    def forward(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        bright = inputs["image"][:, 0] > 160
        ends = []
        for axis in (1, 2):
            along = bright.any(dim=axis).float()
            size = along.shape[1]
            ends.append((along.argmax(1) / size, 1 - along.flip(1).argmax(1) / size))
        (left, right), (top, bottom) = ends
        return {"boxes": torch.stack([left, top, right, bottom], dim=1)[:, None], "bright": bright.long()}


_PROBLEM: Any = SimpleNamespace(
    answer=ANSWER, soften=lambda outputs, _: outputs, read=lambda outputs: outputs, classes=()
)


@cache
def deployed(fit: Fit, folder: Path) -> onnxruntime.InferenceSession:
    facts = {"image": ImageInput(*SIZE, 1, (0.0,), (1.0,), fit=fit)}
    path = folder / f"{fit}.onnx"
    export(Deployable(_FindBright(), _PROBLEM, facts, 1.0), facts, path, {})
    return onnxruntime.InferenceSession(str(path))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("deployed")


@st.composite
def photographs(draw: Any) -> tuple[np.ndarray, tuple[int, int, int, int], int]:
    """Pixels as they are stored, the box of the bright part in them, and an EXIF orientation."""
    height, width = (draw(st.integers(60, 200)) for _ in range(2))
    left, top = draw(st.integers(0, width - 30)), draw(st.integers(0, height - 30))
    right, bottom = draw(st.integers(left + 25, width)), draw(st.integers(top + 25, height))
    pixels = np.full((height, width), 20, np.uint8)
    pixels[top:bottom, left:right] = 250
    return pixels, (left, top, right, bottom), draw(st.integers(1, 8))


def box_of(pixels: np.ndarray) -> np.ndarray:
    """Return the box of what is bright, as shares."""
    lines, across = np.nonzero(pixels > 160)
    height, width = pixels.shape[:2]
    found = [across.min(), lines.min(), across.max() + 1, lines.max() + 1]
    return np.array(found) / [width, height, width, height]


def assert_close(box: np.ndarray, other: np.ndarray, slack: float = 1.3) -> None:
    """Assert that boxes in shares differ by a little more than a pixel of the unified image at most."""
    assert np.abs((box - other) * [SIZE[1], SIZE[0], SIZE[1], SIZE[0]]).max() < slack, (box, other)


@given(photographs())
@settings(max_examples=25, deadline=None)
@pytest.mark.parametrize("fit", get_args(Fit))
def test_a_box_still_encloses_what_is_bright(
    folder: Path, fit: Fit, photograph: tuple[np.ndarray, tuple[int, int, int, int], int]
):
    stored, corners, orientation = photograph
    exif = Image.Exif()
    exif[0x0112] = orientation
    stream = io.BytesIO()
    Image.fromarray(stored).save(stream, "PNG", exif=exif)
    image = open_plain(stream.getvalue(), **LIMITS)
    upright = np.asarray(image)

    # The truth, in pixels as they are stored, follows the image into the unified one.
    frame = replace(frame_of(image.height, image.width, SIZE, fit), orientation=turned(image))
    ends = as_seen(np.array(corners, float).reshape(2, 2), frame)
    truth = np.concatenate([ends.min(axis=0), ends.max(axis=0)])
    seen = resize(image, *SIZE, fit, max_pixels=10**7)
    assert_close(truth, box_of(seen))

    # Training that decodes files sees the same, also a part of an image.
    with EncodedWriter(folder / "one") as writer:
        writer.add(*encode(image, lossy=False, shrink_px=0))
    kept = Encoded(folder / "one", height_px=SIZE[0], width_px=SIZE[1], channels=1, fit=fit)
    assert_close(truth, box_of(kept[0][..., 0]))
    for path in (folder / "one").iterdir():
        path.unlink()
    (folder / "one").rmdir()

    # A mask lies as its image does, and borders do not count.
    mask = resize_mask(
        read_mask(_png(upright > 160), image.size, max_pixels=10**7, max_side_px=10**4), *SIZE, fit
    )
    assert_close(truth, box_of(np.where(mask == 1, 255, 0)))
    assert fit != "stretch" or not (mask == 255).any()
    assert min(frame.scale) > 0.95 or (mask == 255).mean() > 0.03

    # The deployed file answers in shares of the sent image, of any size.
    session = deployed(fit, folder)
    boxes, bright = session.run(None, {"image": upright[None, ..., None]})
    whole = box_of(upright)
    slack = 1.3 / min(frame.scale)
    assert_close(boxes[0, 0], whole, slack)
    assert_close(box_of(255 * bright[0]), whole, slack)

    # The server unifies the file itself, and answers in pixels of the sent image.
    pixels, place = unify(stream.getvalue(), height_px=SIZE[0], width_px=SIZE[1], fit=fit, **LIMITS)
    names = [each.name for each in session.get_outputs()]
    answers = dict(zip(names, session.run(None, {"image": pixels[None, ..., None]}), strict=True))
    said = json.loads(as_json(answers, ANSWER, [place]))[0]
    sides = [image.width, image.height] * 2
    assert_close(np.array(said["boxes"][0]["box"]) / sides, whole, slack)
    assert_close(box_of(255 * np.array(said["bright"])), whole, slack)
    assert np.array_equal(map_as_sent(answers["bright"][0], place), said["bright"])


def test_borders_of_a_very_long_image_are_refused_before_they_fill_the_memory():
    line = _png(np.zeros((1, 9000)))
    limits = {"height_px": 64, "width_px": 64, **LIMITS}
    assert unify(line, **limits)[0].shape == (64, 64)
    with pytest.raises(TooLarge, match=r"9000x1 px: .*prepare.fit = letterbox.*, 9000x9000 px, more"):
        unify(line, **limits, fit="letterbox")
    assert unify(line, **limits, fit="keep-height")[0].shape == (64, 64), "it is squeezed"
    upright = _png(np.zeros((9000, 1)))
    with pytest.raises(TooLarge, match=r"1x9000 px: .*prepare.fit = keep-height.*, 9000x9000 px, more"):
        unify(upright, **limits, fit="keep-height")


@given(st.integers(1, 300), st.integers(1, 300), st.integers(8, 90), st.integers(8, 90))
def test_an_image_of_kept_height_fills_the_height_and_begins_at_the_left(
    height: int, width: int, tall: int, wide: int
):
    frame = frame_of(height, width, (tall, wide), "keep-height")
    assert frame.offset == (0.0, 0.0) and frame.scale[1] == 1.0
    seen = frame.scale[0] * wide
    if width * tall >= height * wide:
        assert frame.scale[0] == 1.0, "what is too wide is squeezed, and fills the width"
    else:
        assert seen <= width * tall / height + 1e-9, "no wider than its proportions allow"
        # The canvas is whole pixels wide, which the image notices if it has few of them.
        assert seen == pytest.approx(width * tall / height, rel=tall / (height * wide) + 1e-9)


def _png(mask: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8)).save(stream, "PNG")
    return stream.getvalue()
