"""The server: `POST /predict`, `/health`, `/ready`, `/metrics`, `/model`, and OpenAPI's page at `/docs`.

Every answer names the version and the digest of the one model that gave all of it. Whatever a client sends, it gets a reason with a
4xx, or a 503 where it is our doing; never a 500 for something that can be foreseen.
"""

import asyncio
import gc
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from fastapi import FastAPI, Response
from fastapi_offline import FastAPIOffline

from temper.config import ServeParams
from temper.serving.batcher import Batcher
from temper.serving.metrics import Metrics
from temper.serving.model_follower import Follower
from temper.serving.predict import EXTRA, IMAGES, Message, Predict, Receive, Sample, Send

_BINARY = {"type": "string", "format": "binary"}
_PIXELS = {"type": "array", "items": {}, "description": "[images][height][width][channels], 0 to 255"}
_REFUSAL = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_REFUSED = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
_ANSWERED = {
    "type": "object",
    "required": ["model", "answers"],
    "properties": {
        "model": {
            "type": "object",
            "properties": {
                "name": {"type": "string"},
                "version": {"type": "integer"},
                "digest": {"type": "string", "description": "SHA-256 of the model's file"},
                "classes": {"type": "array", "items": {"type": "string"}},
            },
        },
        "answers": {
            "type": "array",
            "description": "One an image, in order: every output of the model by its name; of classes also the best and its probability",
            "items": {
                "type": "object",
                "properties": {"class": {"type": "string"}, "score": {"type": "number"}},
            },
        },
    },
}
_SHAPE = {
    "name": "shape",
    "in": "query",
    "required": False,
    "description": "Of raw uint8 pixels sent as application/octet-stream: images,height,width,channels. Left out, the body is an encoded image.",
    "schema": {"type": "string", "example": "1,28,28,1"},
}
_PREDICT: dict[str, Any] = {
    "tags": ["answers"],
    "summary": "Answer one or many images",
    "operationId": "predict",
    "parameters": [_SHAPE],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "array", "minItems": 1, "items": _BINARY}},
                }
            },
            "application/json": {
                "schema": {"type": "object", "required": ["image"], "properties": {"image": _PIXELS}}
            },
            **{kind: {"schema": _BINARY} for kind in ("application/octet-stream", *IMAGES)},
        },
    },
    "responses": {
        "200": {
            "description": "The answers, in order",
            "content": {"application/json": {"schema": _ANSWERED}},
        },
        **{
            status: {"description": text, "content": _REFUSED}
            for status, text in {
                "400": "No form, or a damaged one",
                "401": "Without the token",
                "408": "It did not arrive in time",
                "413": "More than the server takes",
                "415": "Of a type that is not understood",
                "422": "Not images",
                "503": "No model, too many waiting, or too late",
            }.items()
        },
    },
}


@dataclass(frozen=True)
class Server:
    """The application: what is asked most goes straight to its place, all else to FastAPI."""

    predict: Predict
    rest: FastAPI

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        straight = scope["type"] == "http" and scope["path"] == "/predict"
        await (self.predict if straight else self.rest)(scope, receive, send)


def make_app(
    follower: Follower,
    params: ServeParams,
    *,
    cores: int = 1,
    token: str | None = None,
    sample: Sample | None = None,
) -> Server:
    """The application.

    Args:
        follower: The model of the moment.
        params: Limits.
        cores: So many long batches are answered, and so many large images read, side by side.
        token: What clients must send as `Authorization: Bearer TOKEN`; None lets everybody in.
        sample: Given the encoded images of answered requests.
    """
    metrics = Metrics()
    batcher = Batcher(cores=cores, max_batch=params.max_batch, max_queue=params.max_queue, tell=metrics.batch)
    follower.tell = metrics.serves

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        follower.start()
        # What is decoded side by side is all in memory at once.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(cores, "read"))
        # What lives as long as the process is not looked through for garbage again and again: that took 20 ms each time.
        gc.collect()
        gc.freeze()
        yield
        follower.stop()
        batcher.close()

    # OpenAPI's page brings its own scripts: it works where there is no internet.
    app = FastAPIOffline(
        title="temper", description="Answers of the champion to images.", lifespan=lifespan, redoc_url=None
    )
    _add_state(app, follower, metrics)
    _describe(app, locked=token is not None)
    return Server(Predict(follower, batcher, params, metrics, token, sample), app)


def _add_state(app: FastAPI, follower: Follower, metrics: Metrics) -> None:
    refused: dict[int | str, dict[str, Any]] = {
        503: {"description": "There is no model", "content": _REFUSED}
    }

    @app.head("/health", include_in_schema=False)
    @app.get("/health", summary="Is the process alive?", tags=["state"])
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.head("/ready", include_in_schema=False)
    @app.get("/ready", summary="Is there a model to answer with?", tags=["state"], responses=refused)
    async def ready() -> Response:
        if follower.model is None:
            return _answer({"error": f"no model: {follower.problem}"}, 503)
        return _answer({"status": "ready", "version": follower.model.place.version})

    @app.head("/model", include_in_schema=False)
    @app.get("/model", summary="Which model answers?", tags=["state"], responses=refused)
    async def model() -> Response:
        if follower.model is None:
            return _answer({"error": f"no model: {follower.problem}"}, 503)
        about = dict(sorted(follower.model.metadata.items()))
        return _answer({**follower.model.name, "metadata": about, "not_served": follower.problem})

    @app.get("/metrics", summary="For Prometheus", tags=["state"])
    async def prometheus() -> Response:
        return Response(metrics.page(), media_type="text/plain; version=0.0.4")


def _describe(app: FastAPI, *, locked: bool) -> None:
    """OpenAPI's description, with `/predict`, which is no function of FastAPI's."""
    found = app.openapi()
    parts = found.setdefault("components", {})
    parts.setdefault("schemas", {})["Refusal"] = _REFUSAL
    predict = dict(_PREDICT)
    if locked:
        parts["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        predict["security"] = [{"token": []}]
    found["paths"] = {"/predict": {"post": predict}, **found["paths"]}
    app.openapi = lambda: found  # type: ignore[method-assign]


def _answer(value: Any, status: int = 200) -> Response:
    headers = {key.decode(): text.decode() for key, text in [EXTRA[status]]} if status in EXTRA else None
    return Response(orjson.dumps(value), status, headers, "application/json")
