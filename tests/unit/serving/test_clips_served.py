"""A model of clips is asked by files, forms, JSON and raw pixels; wrong clips have a reason."""

import base64
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from temper.artifacts import digest_file
from temper.commands.drift import read_recent
from temper.compress.export import Deployable, export
from temper.inputs.stored import write_inputs
from temper.networks.onnx_model import Deployed
from temper.problems.deployed_answer import write_answer
from temper.serving.model_follower import Place
from tests.toy import TOYS
from tests.unit.data.test_clips import save
from tests.unit.serving.test_app import Server, form

JSON = {"content-type": "application/json"}
RAW = {"content-type": "application/octet-stream"}
TOY = TOYS["clip"]
PIXELS = TOY.as_sent(TOY.batch(2)[0])["clip"]


def file(pixels: np.ndarray) -> bytes:
    from PIL import Image

    return save([Image.fromarray(frame) for frame in pixels], "PNG")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    deployable = Deployable(TOY.network().eval(), TOY.problem, TOY.facts, 1.0).eval()
    export(deployable, TOY.facts, path, {**write_answer(TOY.problem), **write_inputs(TOY.facts)})
    return Place("toys", 1, digest_file(path), path)


def test_every_way_to_ask_gives_the_same_answer(place: Place):
    stored: list[bytes] = []
    server = Server(place, sample=stored.extend)
    wanted = Deployed(place.file)(PIXELS)["probabilities"].tolist()
    both = [base64.b64encode(file(each)).decode() for each in PIXELS]
    asked: list[tuple[bytes, bytes, dict[str, str], int]] = [
        (b"", file(PIXELS[0]), {"content-type": "image/png"}, 1),
        (b"", file(PIXELS[0]), RAW, 1),
        (b"", *form(*map(file, PIXELS), name="clip"), 2),
        (b"", json.dumps({"examples": [{"clip": each} for each in both]}).encode(), JSON, 2),
        (b"", json.dumps({"examples": [{"clip": PIXELS[0].tolist()}]}).encode(), JSON, 1),
        (b"shape=2,3,12,12,3", PIXELS.tobytes(), RAW, 2),
        (b"shape=3,12,12,3", PIXELS[0].tobytes(), RAW, 1),
    ]
    for query, body, headers, count in asked:
        said = server.ask("/predict", body, query=query, headers=headers)
        assert said.status == 200, (query, said.body)
        found = [answer["probabilities"] for answer in said.json["answers"]]
        assert len(found) == count
        for one, other in zip(found, wanted, strict=False):
            assert one == pytest.approx(other, abs=1e-5)
    assert stored[:4] == [file(each) for each in (PIXELS[0], PIXELS[0], *PIXELS)]


def test_other_sizes_are_resized_in_the_file(place: Place):
    large = PIXELS.repeat(3, axis=2).repeat(2, axis=3)
    said = Server(place).ask("/predict", large.tobytes(), query=b"shape=2,3,36,24,3", headers=RAW)
    wanted = Deployed(place.file)(PIXELS)["probabilities"].tolist()
    for answer, each in zip(said.json["answers"], wanted, strict=True):
        assert answer["probabilities"] == pytest.approx(each, abs=0.02)


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (base64.b64encode(b"none").decode(), "example 0: not an image in a known format"),
        (base64.b64encode(file(PIXELS[0])[:-60]).decode(), "example 0: damaged"),
        ("no file", "clip: expected the base64 of a file"),
        (PIXELS[0, :2].tolist(), "pixels must be whole numbers, [3][12][12][3]; send another size as a file"),
        (None, "clip: pixels must be whole numbers"),
        (base64.b64encode(file(PIXELS.repeat(10, 2).repeat(10, 3)[0])).decode(), "than serve.max_pixels"),
    ],
)
def test_wrong_clips_have_a_reason(place: Place, value: Any, words: str):
    said = Server(place).ask("/predict", json.dumps({"examples": [{"clip": value}]}).encode(), headers=JSON)
    assert said.status in (413, 422) and words in said.json["error"], said.json


@pytest.mark.parametrize(
    ("query", "body", "headers", "words"),
    [
        (b"", json.dumps({"clip": PIXELS.tolist()}).encode(), JSON, "the body must be"),
        (b"", b'{"image": [[[[1, 2, 3]]]]}', JSON, "the model takes [clips, 3, height, width, 3]"),
        (b"shape=12,12,3", PIXELS[0, 0].tobytes(), RAW, "must be clips,frames,height,width,channels"),
        (
            b"shape=2,12,12,3",
            PIXELS[0, :2].tobytes(),
            RAW,
            "the model takes [clips, 3, height, width, 3]",
        ),
        (b"", *form(file(PIXELS[0])), "the form needs one or more files named `clip`"),
    ],
)
def test_requests_of_another_form(
    place: Place, query: bytes, body: bytes, headers: dict[str, str], words: str
):
    said = Server(place).ask("/predict", body, query=query, headers=headers)
    assert said.status == 422 and words in said.json["error"], said.json


def test_what_the_server_stored_is_read_by_the_drift_check(tmp_path: Path):
    (tmp_path / "one").write_bytes(file(PIXELS[0]))
    (tmp_path / "two").write_bytes(json.dumps({"clip": base64.b64encode(file(PIXELS[1])).decode()}).encode())
    (tmp_path / "three").write_bytes(b"none")
    found, unreadable = read_recent([tmp_path / name for name in ("one", "two", "three")], TOY.facts)
    assert len(unreadable) == 1 and (found["clip"] == PIXELS).all()
    described = TOY.facts["clip"].describe(found["clip"])
    assert described.keys() == {"brightness", "contrast", "sharpness", "colourfulness", "motion"}
    still = TOY.facts["clip"].describe(found["clip"][:, [1, 1, 1]])
    assert (described["motion"] > 0.05).all() and (still["motion"] == 0).all()
