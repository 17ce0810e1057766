"""The server: `POST /predict`, `/health`, `/ready`, `/metrics`, `/model`, and OpenAPI's page at `/docs`.

Every answer names the version and the digest of the one model that computed all of it. A refused request
gets a reason: with a 4xx if the client caused it, with a 503 if the server did. Foreseeable errors never
give a 500.
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

from temper.serve_params import ServeParams
from temper.serving.batcher import Batcher
from temper.serving.metrics import Metrics
from temper.serving.model_follower import Follower
from temper.serving.predict import EXTRA, IMAGES, Message, Predict, Receive, Sample, Send

_BINARY = {"type": "string", "format": "binary"}
_PIXELS = {"type": "array", "items": {}, "description": "[images][height][width][channels], 0 to 255"}
_REFUSAL = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_REFUSED = {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}
_OBJECT = {
    "type": "object",
    "properties": {
        "class": {"type": "string"},
        "score": {"type": "number"},
        "box": {
            "type": "array",
            "items": {"type": "number"},
            "minItems": 4,
            "maxItems": 4,
            "description": "left, top, right and bottom in pixels of the upright image that was sent",
        },
    },
}
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
            "description": "One per image, in order: every output of the model by its name. Probabilities of "
            "classes are followed by the best class and its probability or, where several may be true, by "
            "all classes that reach the threshold. Boxes are a list of objects, best first.",
            "items": {
                "type": "object",
                "properties": {
                    "class": {"type": "string"},
                    "score": {"type": "number"},
                    "classes": {"type": "array", "items": {"type": "string"}},
                    "boxes": {"type": "array", "items": _OBJECT},
                },
            },
        },
    },
}
_SHAPE = {
    "name": "shape",
    "in": "query",
    "required": False,
    "description": "Shape of raw uint8 pixels sent as application/octet-stream: "
    "images,height,width,channels, or clips,frames,height,width,channels. Without it, the body is an encoded "
    "image or clip.",
    "schema": {"type": "string", "example": "1,28,28,1"},
}
_LEAST_SCORE = {
    "name": "least_score",
    "in": "query",
    "required": False,
    "description": "Smallest score of the boxes that are wanted, for models that answer boxes with scores.",
    "schema": {"type": "number", "minimum": 0, "maximum": 1, "example": 0.5},
}
_PREDICT: dict[str, Any] = {
    "tags": ["answers"],
    "summary": "Answer one or many images",
    "operationId": "predict",
    "parameters": [_SHAPE, _LEAST_SCORE],
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
                "400": "The form is missing or damaged, or the request is incomplete",
                "401": "The token is missing or wrong",
                "408": "The request did not arrive in time",
                "413": "The request exceeds a limit of the server",
                "415": "The content type is not supported",
                "422": "The body does not contain valid images",
                "503": "No model, too many waiting images, or a timeout",
            }.items()
        },
    },
}


@dataclass(frozen=True)
class Server:
    """The application: `/predict` bypasses FastAPI, which handles all other requests."""

    predict: Predict
    rest: FastAPI

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        is_predict = scope["type"] == "http" and scope["path"] in ("/predict", "/predict/")
        await (self.predict if is_predict else self.rest)(scope, receive, send)


def make_app(
    follower: Follower,
    params: ServeParams,
    *,
    cores: int = 1,
    token: str | None = None,
    sample: Sample | None = None,
) -> Server:
    """Make the application.

    Args:
        follower: Provides the current model.
        params: Limits.
        cores: Number of long batches that are answered, and of large images that are decoded, in parallel.
        token: Token that clients must send as `Authorization: Bearer TOKEN`; None allows every client.
        sample: Called with the encoded images of answered requests.
    """
    metrics = Metrics()
    batcher = Batcher(cores=cores, max_batch=params.max_batch, max_queue=params.max_queue, tell=metrics.batch)
    follower.tell = metrics.serves

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        follower.start()
        # One thread per core limits memory: all images that are decoded in parallel are in memory at once.
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(cores, "read"))
        # Objects that live as long as the process are excluded from garbage collection: scanning them took
        # 20 ms each time.
        gc.collect()
        gc.freeze()
        yield
        follower.stop()
        batcher.close()

    # The page contains its own scripts, so it works without internet.
    app = FastAPIOffline(
        title="temper",
        description="Predictions of the champion for images.",
        lifespan=lifespan,
        redoc_url=None,
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

    @app.get("/metrics", summary="Metrics for Prometheus", tags=["state"])
    async def prometheus() -> Response:
        return Response(metrics.page(), media_type="text/plain; version=0.0.4")


def _describe(app: FastAPI, *, locked: bool) -> None:
    """Add `/predict` to the OpenAPI description, which covers only the routes of FastAPI."""
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
