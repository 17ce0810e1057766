"""The server: all formats give the same answer, errors have reasons, promotions do not mix models."""

import asyncio
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from temper.serve_params import ServeParams
from temper.serving.app import make_app
from temper.serving.model_follower import Follower, Place
from tests.unit.serving.served import CLASSES, SIDE, Said, ask, make_place

PARAMS = ServeParams(
    max_bytes=100_000, max_pixels=10_000, max_side_px=500, max_images=8, max_queue=16, timeout_s=5.0
)
PIXELS = (np.arange(SIDE * SIDE, dtype=np.uint8) * 15).reshape(1, SIDE, SIDE, 1)


class Server:
    """An application and the alias that it follows."""

    def __init__(self, place: Place | None, params: ServeParams = PARAMS, **options: Any) -> None:
        self.place, self.said = place, list[str]()
        self.follower = Follower(lambda: self.place, say=self.said.append)
        self.app = make_app(self.follower, params, **options)
        self.follower.look()

    def ask(self, *arguments: Any, **options: Any) -> Said:
        return asyncio.run(ask(self.app, *arguments, **options))


@pytest.fixture
def server(tmp_path: Path) -> Server:
    return Server(make_place(tmp_path, 1))


def png(pixels: np.ndarray) -> bytes:
    target = io.BytesIO()
    Image.fromarray(pixels.squeeze()).save(target, "PNG")
    return target.getvalue()


def form(*files: bytes, name: str = "image") -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"; filename="a.png"\r\n'.encode()
        + b"Content-Type: image/png\r\n\r\n"
        + file
        + b"\r\n"
        for file in files
    ]
    return b"".join(parts) + b"--xyz--\r\n", {"content-type": "multipart/form-data; boundary=xyz"}


def test_a_request_that_does_not_arrive_is_told_apart_from_an_answer_that_is_late(tmp_path: Path):
    server, sent = Server(make_place(tmp_path, 1), ServeParams(timeout_s=0.1)), list[dict[str, Any]]()

    async def receive() -> dict[str, Any]:
        await asyncio.sleep(0.2 if asked else 0)
        asked.append(True)
        return {"type": "http.request", "body": b"x", "more_body": True}

    async def send(message: Any) -> None:
        sent.append(message)

    asked: list[bool] = []
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/predict",
        "query_string": b"",
        "headers": [(b"content-type", b"image/png")],
    }
    asyncio.run(server.app(scope, receive, send))
    assert sent[0]["status"] == 408 and (b"connection", b"close") in sent[0]["headers"]
    assert b"not arrive" in sent[1]["body"] and b"within 0.1 s" in sent[1]["body"]


def test_every_way_to_ask_gives_the_same_answer(server: Server):
    body, headers = form(png(PIXELS))
    said = [
        server.ask(
            "/predict",
            json.dumps({"image": PIXELS.tolist()}).encode(),
            headers={"content-type": "application/json"},
        ),
        server.ask(
            "/predict",
            json.dumps({"image": PIXELS[0].tolist()}).encode(),
            headers={"content-type": "application/json; charset=utf-8"},
        ),
        server.ask(
            "/predict",
            PIXELS.tobytes(),
            query=b"shape=1,4,4,1",
            headers={"content-type": "application/octet-stream"},
        ),
        server.ask(
            "/predict",
            PIXELS.tobytes(),
            query=b"shape=4,4,1",
            headers={"content-type": "application/octet-stream"},
        ),
        server.ask("/predict", png(PIXELS), headers={"content-type": "application/octet-stream"}),
        server.ask("/predict", png(PIXELS), headers={"content-type": "image/png"}, pieces=7),
        server.ask("/predict", body, headers=headers, pieces=5),
    ]
    assert [each.status for each in said] == [200] * len(said), [each.body for each in said]
    assert all(each.json == said[0].json for each in said)
    answer = said[0].json["answers"][0]
    assert answer["class"] in CLASSES and answer["score"] == max(answer["probabilities"])
    assert said[0].json["model"]["version"] == 1 and len(said[0].json["model"]["digest"]) == 64


def test_many_images_are_answered_in_their_order(server: Server):
    images = np.random.default_rng(0).integers(0, 256, (5, SIDE, SIDE, 1), np.uint8)
    body, headers = form(*(png(each) for each in images))
    together = server.ask("/predict", body, headers=headers).json["answers"]
    alone = [
        server.ask(
            "/predict",
            each.tobytes(),
            query=b"shape=4,4,1",
            headers={"content-type": "application/octet-stream"},
        ).json["answers"][0]
        for each in images
    ]
    assert [each["class"] for each in together] == [each["class"] for each in alone]
    for ours, theirs in zip(together, alone, strict=True):
        assert ours["probabilities"] == pytest.approx(theirs["probabilities"])


JSON, RAW, PNG = (
    {"content-type": kind} for kind in ("application/json", "application/octet-stream", "image/png")
)


def bomb() -> bytes:
    """A PNG of 30,000 x 30,000 px in 100 kB."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return (
            len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")
        )

    head = (30_000).to_bytes(4, "big") * 2 + bytes([8, 0, 0, 0, 0])
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(bytes(50_000)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize(
    ("body", "query", "headers", "status", "why"),
    [
        (b"{}", b"", JSON, 422, "image"),
        (b"[", b"", JSON, 422, ""),
        (b'{"image": "x"}', b"", JSON, 422, "image"),
        (b'{"image": [[[[300]]]]}', b"", JSON, 422, "from 0 to 255"),
        (b'{"image": [[[[-1]]]]}', b"", JSON, 422, "from 0 to 255"),
        (b'{"image": [[[[1.5]]]]}', b"", JSON, 422, "whole numbers"),
        (b'{"image": [[[[1], [2, 3]]]]}', b"", JSON, 422, ""),
        (b'{"image": []}', b"", JSON, 422, ""),
        (b'{"image": [[[[1, 2, 3]]]]}', b"", JSON, 422, "the model takes [images, height, width, 1]"),
        (b'{"image": null}', b"", JSON, 422, ""),
        (b'{"image": ' + b"[" * 5000, b"", JSON, 422, ""),
        *(
            (b'{"image": %s1%s}' % (b"[" * deep, b"]" * deep), b"", JSON, 422, why)
            for deep, why in ((5, "nested deeper than 4"), (65, "nested deeper than 4"), (40_000, ""))
        ),
        (b"\xff\xfe", b"", JSON, 422, ""),
        (b"12", b"shape=1,4,4,1", RAW, 422, "shape=1,4,4,1: needs 16 bytes, but the body has 2"),
        (b"12", b"shape=1,-4,4,1", RAW, 422, "each at least 1"),
        (b"12", b"shape=x", RAW, 422, "must be images,height,width,channels"),
        (b"12", b"shape=1,99999999999999999999,4,1", RAW, 422, ""),
        (b"12", b"", RAW, 422, "image 0"),
        (b"", b"", PNG, 422, ""),
        (b"no image", b"", PNG, 422, "image 0"),
        (bomb(), b"", PNG, 413, "image 0"),
        (png(np.zeros((120, 120), np.uint8)), b"", PNG, 413, "serve.max_pixels = 10000"),
        (png(np.zeros((1, 600), np.uint8)), b"", PNG, 413, "serve.max_side_px = 500"),
        (png(PIXELS)[:40], b"", PNG, 422, "image 0"),
        (bytes(9 * 16), b"shape=9,4,4,1", RAW, 413, "9 images: a request may contain at most 8"),
        (bytes(100_001), b"", PNG, 413, "larger than 100000 bytes"),
        (b"x", b"", {"content-type": "text/html"}, 415, "content-type 'text/html' is not supported"),
        (b"x", b"", {}, 415, "content-type '' is not supported"),
        (b"x", b"", {"content-type": "multipart/form-data"}, 400, "form"),
        (b"x", b"", {"content-type": "multipart/form-data; boundary=xyz"}, 400, "form"),
        (*form(png(PIXELS), name="photo")[:1], b"", form()[1], 422, "named `image`"),
        (*form(*[png(PIXELS)] * 9)[:1], b"", form()[1], 400, "form"),
    ],
)
def test_what_is_wrong_is_named(
    server: Server, body: bytes, query: bytes, headers: dict[str, str], status: int, why: str
):
    said = server.ask("/predict", body, query=query, headers=headers)
    assert said.status == status, said.body
    assert why in said.json["error"]


def test_a_size_that_is_told_beforehand_is_refused_unread(server: Server):
    said = server.ask("/predict", b"x", headers={**PNG, "content-length": "100001"})
    assert said.status == 413


def test_the_token(tmp_path: Path):
    server = Server(make_place(tmp_path, 1), token="secret")
    for sent in (
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "secret"},
        {"authorization": "Bearer secr\xe9t"},
    ):
        said = server.ask("/predict", png(PIXELS), headers={**PNG, **sent})
        assert said.status == 401 and said.headers["www-authenticate"] == "Bearer"
    assert (
        server.ask("/predict", png(PIXELS), headers={**PNG, "authorization": "Bearer secret"}).status == 200
    )
    assert server.ask("/health", method="GET").status == 200


def test_without_a_model_it_is_alive_and_not_ready(tmp_path: Path):
    server = Server(None)
    assert server.ask("/health", method="GET").status == 200
    for path, method in (("/ready", "GET"), ("/model", "GET"), ("/predict", "POST")):
        said = server.ask(path, png(PIXELS), headers=PNG, method=method)
        assert said.status == 503 and "no version has the alias" in said.json["error"]
    server.place = make_place(tmp_path, 3)
    server.follower.look()
    assert server.ask("/ready", method="GET").json == {"status": "ready", "version": 3}
    assert server.ask("/model", method="GET").json["metadata"]["temper.kind"] == "multiclass"
    assert b"temper_model_version 3.0" in server.ask("/metrics", method="GET").body


def test_a_file_that_is_not_what_was_registered_is_not_served(server: Server, tmp_path: Path):
    server.place = make_place(tmp_path / "new", 2, sign=-1.0)
    server.place.file.write_bytes(server.place.file.read_bytes() + b"x")
    server.follower.look()
    assert "is not the file that was registered" in server.said[-1]
    assert server.ask("/ready", method="GET").json["version"] == 1, "the previous version stays"
    assert "not the file" in server.ask("/model", method="GET").json["not_served"]


def test_a_promotion_under_load_mixes_nothing(server: Server, tmp_path: Path):
    """Check that every answer comes entirely from the version that it names, and that none fails."""
    places = [server.place, make_place(tmp_path / "new", 2, sign=-1.0)]
    body = png(PIXELS)
    truth: dict[int, list[float]] = {}
    for place in places:
        server.place = place
        server.follower.look()
        said = server.ask("/predict", body, headers=PNG).json
        truth[said["model"]["version"]] = said["answers"][0]["probabilities"]
    assert truth[1] != truth[2]

    async def run() -> list[Said]:
        found: list[Said] = []

        async def client(number: int) -> None:
            for turn in range(30):
                if number == 0 and turn % 5 == 0:
                    server.place = places[turn // 5 % 2]
                    await asyncio.get_running_loop().run_in_executor(None, server.follower.look)
                found.append(await ask(server.app, "/predict", body, headers=PNG))

        await asyncio.gather(*(client(number) for number in range(8)))
        return found

    found = asyncio.run(run())
    assert len(found) == 240 and all(said.status == 200 for said in found)
    assert all(
        np.allclose(said.json["answers"][0]["probabilities"], truth[said.json["model"]["version"]])
        for said in found
    )
    assert {said.json["model"]["version"] for said in found} == {1, 2}


def test_too_many_waiting_are_refused_and_late_ones_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    server = Server(make_place(tmp_path, 1), ServeParams(max_queue=4, timeout_s=0.3, max_batch=1))
    model = server.follower.model
    assert model is not None
    import time

    answer = type(model).answer

    def slow(self: Any, images: np.ndarray) -> Any:
        time.sleep(0.2)
        return answer(self, images)

    monkeypatch.setattr(type(model), "answer", slow)

    async def run() -> list[Said]:
        return await asyncio.gather(
            *(ask(server.app, "/predict", png(PIXELS), headers=PNG) for _ in range(30))
        )

    found = asyncio.run(run())
    assert {said.status for said in found} == {200, 503}
    words = {said.json["error"] for said in found if said.status == 503}
    assert any("4 images are already waiting" in each for each in words)
    assert all(said.headers["retry-after"] == "1" for said in found if said.status == 503)


def test_the_openapi_page_describes_it(server: Server):
    found = server.ask("/openapi.json", method="GET").json
    assert set(found["paths"]["/predict"]["post"]["requestBody"]["content"]) >= {
        "multipart/form-data",
        "application/json",
    }
    assert {"200", "413", "422", "503"} <= set(found["paths"]["/predict"]["post"]["responses"])
    assert server.ask("/docs", method="GET").status == 200


def test_answered_images_can_be_kept(tmp_path: Path):
    kept: list[list[bytes]] = []
    server = Server(make_place(tmp_path, 1), sample=kept.append)
    server.ask("/predict", png(PIXELS), headers=PNG)
    server.ask("/predict", b"nonsense", headers=PNG)
    assert kept == [[png(PIXELS)]]
