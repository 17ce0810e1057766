"""A model of boxes answers with objects in pixels of the sent image, also only those with a score."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from temper.artifacts import digest_file
from temper.compress.export import Deployable, export
from temper.inputs.stored import write_inputs
from temper.networks.onnx_model import Deployed
from temper.problems.deployed_answer import write_answer
from temper.serving.model_follower import Place
from tests.toy import TOYS
from tests.unit.serving.served import make_place
from tests.unit.serving.test_app import Server, png

RAW = {"content-type": "application/octet-stream"}
PIXELS = np.random.default_rng(0).integers(0, 256, (30, 24, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    toy, file = TOYS["detection"], tmp_path_factory.mktemp("model") / "model.onnx"
    problem = replace(toy.problem, least=0.001)  # the network is untrained, and its scores are small
    deployable = Deployable(toy.network().eval(), problem, toy.facts, 1.0).eval()
    export(deployable, toy.facts, file, {**write_answer(problem), **write_inputs(toy.facts)})
    return Place("toys", 1, digest_file(file), file)


def test_boxes_are_those_of_the_file_in_pixels_of_the_sent_image(place: Place):
    said = Server(place).ask("/predict", PIXELS.tobytes(), query=b"shape=30,24,3", headers=RAW)
    assert said.status == 200, said.body
    (answer,) = said.json["answers"]
    own = {name: value[0].numpy() for name, value in Deployed(place.file)({"image": PIXELS[None]}).items()}
    count = int((own["boxes_valid"] == 1).sum())
    assert len(answer["boxes"]) == count > 1
    for number, found in enumerate(answer["boxes"]):
        assert found["class"] == said.json["model"]["classes"][own["labels"][number]]
        assert found["score"] == pytest.approx(own["scores"][number], abs=1e-4)
        wanted = (own["boxes"][number].reshape(2, 2).clip(0, 1) * [24, 30]).ravel()
        assert found["box"] == pytest.approx(wanted, abs=0.01)


def test_the_query_leaves_out_boxes_with_a_small_score(place: Place):
    server, headers = Server(place), {"content-type": "image/png"}
    (every,) = server.ask("/predict", png(PIXELS), headers=headers).json["answers"]
    scores = [each["score"] for each in every["boxes"]]
    least = sorted(scores)[len(scores) // 2] + 1e-3
    query = f"least_score={least}".encode()
    (some,) = server.ask("/predict", png(PIXELS), query=query, headers=headers).json["answers"]
    assert some["boxes"] == [each for each in every["boxes"] if each["score"] >= least]
    assert 0 <= len(some["boxes"]) < len(every["boxes"])


@pytest.mark.parametrize("sent", ["2", "-0.1", "nan", "half", ""])
def test_a_score_that_is_none_is_refused(place: Place, sent: str):
    query = f"least_score={sent}&shape=30,24,3".encode()
    said = Server(place).ask("/predict", PIXELS.tobytes(), query=query, headers=RAW)
    assert said.status == 422 and "must be a number from 0 to 1" in said.json["error"]


def test_a_model_without_boxes_refuses_a_score(tmp_path: Path):
    server = Server(make_place(tmp_path, 1))
    said = server.ask("/predict", bytes(16), query=b"shape=4,4,1&least_score=0.5", headers=RAW)
    assert said.status == 422 and "no boxes with scores; leave it out" in said.json["error"]
