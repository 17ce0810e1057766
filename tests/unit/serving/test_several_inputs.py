"""A model of an image, a text and numbers is asked by JSON and by forms; a model of texts alone by JSON."""

import base64
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from temper.artifacts import digest_file
from temper.commands.drift import read_recent
from temper.compress.export import Deployable, export
from temper.inputs.facts import draw
from temper.inputs.stored import write_inputs
from temper.networks.onnx_model import Deployed
from temper.problems.deployed_answer import write_answer
from temper.serving.model_follower import Place
from tests.toy import TOYS
from tests.unit.serving.test_app import Server, png

JSON = {"content-type": "application/json"}
PIXELS = np.random.default_rng(0).integers(0, 256, (12, 12, 3), dtype=np.uint8)
EXAMPLE = {
    "image": base64.b64encode(png(PIXELS)).decode(),
    "text": "look, one cross",
    "table": {"size": None, "noise": 0.5},
}


@pytest.fixture(scope="module")
def places(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Place]:
    found = {}
    for kind in ("text", "three inputs"):
        toy, file = TOYS[kind], tmp_path_factory.mktemp("model") / "model.onnx"
        deployable = Deployable(toy.network().eval(), toy.problem, toy.facts, 1.0).eval()
        export(deployable, toy.facts, file, {**write_answer(toy.problem), **write_inputs(toy.facts)})
        found[kind] = Place("toys", 1, digest_file(file), file)
    return found


def wanted(place: Place, kind: str, example: dict[str, Any]) -> list[float]:
    """What the file itself answers."""
    given = {"image": PIXELS} | {
        name: each.decode(example[name]) for name, each in TOYS[kind].facts.items() if not each.picture
    }
    answer = Deployed(place.file)({name: given[name][None] for name in TOYS[kind].facts})
    return answer["probabilities"][0].tolist()


def test_examples_as_json(places: dict[str, Place]):
    stored: list[bytes] = []
    server = Server(places["three inputs"], sample=stored.extend)
    other = {**EXAMPLE, "image": PIXELS.tolist(), "text": "a circle"}
    said = server.ask("/predict", json.dumps({"examples": [EXAMPLE, other]}).encode(), headers=JSON)
    assert said.status == 200, said.body
    for answer, example in zip(said.json["answers"], (EXAMPLE, other), strict=True):
        expected = wanted(places["three inputs"], "three inputs", example)
        assert answer["probabilities"] == pytest.approx(expected, abs=1e-6)
        assert answer["class"] in TOYS["three inputs"].problem.classes
    assert [json.loads(each) for each in stored] == [EXAMPLE, other]


def test_an_example_as_a_form(places: dict[str, Place]):
    parts = [
        b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n' + png(PIXELS),
        b'Content-Disposition: form-data; name="text"\r\n\r\n' + EXAMPLE["text"].encode(),
        b'Content-Disposition: form-data; name="table"\r\n\r\n' + json.dumps(EXAMPLE["table"]).encode(),
    ]
    body = b"".join(b"--xyz\r\n" + part + b"\r\n" for part in parts) + b"--xyz--\r\n"
    headers = {"content-type": "multipart/form-data; boundary=xyz"}
    said = Server(places["three inputs"]).ask("/predict", body, headers=headers)
    expected = wanted(places["three inputs"], "three inputs", EXAMPLE)
    assert said.json["answers"][0]["probabilities"] == pytest.approx(expected, abs=1e-6)


def test_a_form_is_one_example(places: dict[str, Place]):
    part = b'--xyz\r\nContent-Disposition: form-data; name="text"\r\n\r\na circle\r\n'
    headers = {"content-type": "multipart/form-data; boundary=xyz"}
    said = Server(places["text"]).ask("/predict", 2 * part + b"--xyz--\r\n", headers=headers)
    assert said.status == 422 and "has the field 'text' several times" in said.json["error"]
    assert Server(places["text"]).ask("/predict", part + b"--xyz--\r\n", headers=headers).status == 200


def test_texts_alone(places: dict[str, Place]):
    body = json.dumps({"examples": [{"text": "a circle"}, {"text": ""}, {"text": "ça" * 99}]}).encode()
    said = Server(places["text"]).ask("/predict", body, headers=JSON)
    assert said.status == 200 and len(said.json["answers"]) == 3
    expected = wanted(places["text"], "text", {"text": "a circle"})
    assert said.json["answers"][0]["probabilities"] == pytest.approx(expected, abs=1e-6)
    assert all(math.isfinite(each) for answer in said.json["answers"] for each in answer["probabilities"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"text": None}, "example 0: text: expected a text, found NoneType"),
        ({"text": 3}, "example 0: text: expected a text, found int"),
        ({"table": {"size": 1}}, "the column 'noise' is missing"),
        ({"table": {"size": 1, "noise": 2, "more": 3}}, "unknown column 'more'"),
        ({"table": {"size": True, "noise": 2}}, "size = True is not a finite number"),
        ({"table": {"size": 1e39, "noise": 2}}, "too large for a number of 32 bits"),
        ({"table": [1, 2]}, "expected numbers by name, found list"),
        ({"image": "no image"}, "image: expected the base64 of a file"),
        ({"image": base64.b64encode(b"none").decode()}, "example 0: not an image in a known format"),
        ({"image": [[[1, 2, 3]]]}, "pixels must be whole numbers, [12][12][3]; send another size as a file"),
        ({"image": [[1], [1, 2]]}, "pixels must be lists of equal lengths"),
        ({"image": None}, "pixels must be whole numbers"),
        ({"sound": "x"}, "the input 'sound' is unknown: an example has image, text, table"),
    ],
)
def test_wrong_examples_have_a_reason(places: dict[str, Place], change: dict[str, Any], words: str):
    body = json.dumps({"examples": [{**EXAMPLE, **change}]}).encode()
    said = Server(places["three inputs"]).ask("/predict", body, headers=JSON)
    assert said.status == 422 and words in said.json["error"]


@pytest.mark.parametrize(
    ("body", "headers", "words"),
    [
        (b'{"examples": []}', JSON, "must be a list with one object per example"),
        (b'{"examples": ["x"]}', JSON, "an example must be an object with image, text, table"),
        (b'{"examples": [{"text": "x"}]}', JSON, "the input 'image' is missing"),
        (b'{"image": [[[[1, 2, 3]]]]}', JSON, "the model takes image, text, table; send JSON"),
        (png(PIXELS), {"content-type": "image/png"}, "the input 'text' is missing"),
    ],
)
def test_requests_of_another_form(places: dict[str, Place], body: bytes, headers: dict[str, str], words: str):
    said = Server(places["three inputs"]).ask("/predict", body, headers=headers)
    assert said.status == 422 and words in said.json["error"], said.json


def test_what_the_server_stored_is_read_by_the_drift_check(tmp_path: Path):
    (tmp_path / "one").write_bytes(json.dumps(EXAMPLE).encode() + b"\n")
    (tmp_path / "two").write_bytes(b'{"text": "no image"}\n{broken\n')
    (tmp_path / "three").write_bytes(png(PIXELS))
    facts = TOYS["three inputs"].facts
    found, unreadable = read_recent([tmp_path / name for name in ("one", "two", "three", "gone")], facts)
    assert len(unreadable) == 4 and (found["image"] == PIXELS).all()
    assert bytes(found["text"][0]).rstrip(b"\0").decode() == EXAMPLE["text"]
    assert np.isnan(found["table"][0, 0]) and found["table"][0, 1] == 0.5
    assert {name: column.shape for name, column in read_recent([], facts)[0].items()} == {
        "image": (0, 12, 12, 3),
        "text": (0, 24),
        "table": (0, 2),
    }


def test_all_inputs_of_an_example_are_drawn_side_by_side():
    facts = TOYS["three inputs"].facts
    example = {
        "image": np.full((12, 12, 3), 200, np.uint8),
        "text": facts["text"].decode("a circle"),
        "table": facts["table"].decode({"size": 1, "noise": None}),
    }
    drawn = draw(example, facts)
    alone = {name: draw({name: example[name]}, {name: each}) for name, each in facts.items()}
    assert (alone["image"] == example["image"]).all() and drawn.dtype == np.uint8
    assert len(drawn) == max(map(len, alone.values())) and drawn.shape[1] == 3 * len(drawn)
    assert (drawn[:, : len(drawn)] == 200).all() and (drawn[:, len(drawn) :] < 128).any()
    grey = {"image": np.full((12, 12, 1), 90, np.uint8), "text": example["text"]}
    assert draw(grey, {name: facts[name] for name in grey}).shape[2] == 3


def test_a_text_is_the_same_however_its_letters_are_composed():
    text = TOYS["text"].facts["text"]
    assert (text.decode("mu\u0308sik") == text.decode("m\u00fcsik")).all()
