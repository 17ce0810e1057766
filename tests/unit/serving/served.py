"""Servable versions with one-layer models, and a client that needs no network.

`python -m tests.unit.serving.served FOLDER PORT` serves one of them with the limits of the fuzz tests.
"""

import asyncio
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from temper.artifacts import digest_file
from temper.serve_params import ServeParams
from temper.serving.app import Server, make_app
from temper.serving.model_follower import Follower, Place
from tests.unit.ops.finished import make_network

CLASSES = ("cat", "dog", "emu", "fox")
SIDE = 4
SMALL = ServeParams(max_bytes=20_000, max_pixels=4_000, max_images=4)


def make_place(folder: Path, version: int, *, sign: float = 1.0, answers: int = len(CLASSES)) -> Place:
    """Make a version whose answers depend on `sign`."""
    network = make_network(answers)
    weights = network.graph.initializer[0]
    values = sign * onnx.numpy_helper.to_array(weights)
    weights.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), "weights"))
    for key, value in (
        ("temper.kind", "multiclass"),
        ("temper.classes", json.dumps(CLASSES)),
        ("temper.size_px", json.dumps([SIDE, SIDE])),
        ("temper.input", json.dumps(["N", "H", "W", 1])),
    ):
        network.metadata_props.add(key=key, value=value)
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / f"{version}.onnx"
    onnx.save(network, file)
    return Place("toys", version, digest_file(file), file)


@dataclass(frozen=True)
class Said:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def ask(
    app: Server,
    path: str,
    body: bytes = b"",
    *,
    method: str = "POST",
    query: bytes = b"",
    headers: Mapping[str, str] | None = None,
    pieces: int = 1,
) -> Said:
    """Send a request to the application as a server would, with its body in pieces."""
    size = max(1, -(-len(body) // pieces))
    parts = [body[start : start + size] for start in range(0, len(body), size)] or [b""]
    coming = [
        {"type": "http.request", "body": part, "more_body": number < len(parts) - 1}
        for number, part in enumerate(parts)
    ]
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        if coming:
            return coming.pop(0)
        await asyncio.sleep(3600)
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query,
        "headers": [
            (key.lower().encode("latin-1"), value.encode("latin-1")) for key, value in (headers or {}).items()
        ],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
        "scheme": "http",
        "root_path": "",
    }
    await app(scope, receive, send)
    start = next(message for message in sent if message["type"] == "http.response.start")
    content = b"".join(
        message.get("body", b"") for message in sent if message["type"] == "http.response.body"
    )
    found = {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in start["headers"]}
    return Said(start["status"], found, content)


def main(folder: Path, port: int) -> None:
    """Make a version in a folder and serve it."""
    import uvicorn

    from temper.serving.connection import Connection

    place = make_place(folder, 1)
    app = make_app(Follower(lambda: place), SMALL)
    uvicorn.run(app, host="127.0.0.1", port=port, http=Connection, log_level="critical", access_log=False)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
