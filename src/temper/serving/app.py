"""The server: `POST /predict`, `/health`, `/ready`, `/metrics`, `/model`, and OpenAPI's page at `/docs`.

Every answer names the version and the digest of the one model that gave all of it. Whatever a client sends, it gets a reason with a
4xx, or a 503 where it is our doing; never a 500 for something that can be foreseen.
"""

import asyncio
import hmac
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import numpy as np
import orjson
from fastapi import FastAPI, Request, Response
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.formparsers import MultiPartException

from temper.params import ServeParams
from temper.serving import requests
from temper.serving.batches import Batcher, Full
from temper.serving.models import Follower, Model, Unanswerable
from temper.serving.requests import Refused

Sample = Callable[[list[bytes]], object]
_PICTURES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif", "image/tiff")
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
_OPENAPI: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {"type": "array", "minItems": 1, "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {
                        "image": {
                            "type": "array",
                            "items": {},
                            "description": "[pictures][height][width][channels], 0 to 255",
                        }
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
            **{kind: {"schema": {"type": "string", "format": "binary"}} for kind in _PICTURES},
        },
    },
    "parameters": [
        {
            "name": "shape",
            "in": "query",
            "required": False,
            "description": "Of raw uint8 pixels sent as application/octet-stream: pictures,height,width,channels. Left out, the body is an encoded picture.",
            "schema": {"type": "string", "example": "1,28,28,1"},
        }
    ],
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"description": text, "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Refusal"}}}}
    for status, text in {
        400: "No form, or a damaged one",
        401: "Without the token",
        413: "More than the server takes",
        415: "Of a type that is not understood",
        422: "Not pictures",
        503: "No model, too many waiting, or too late",
    }.items()
}


class _Metrics:
    """What Prometheus is told."""

    def __init__(self, follower: Follower, batcher: Batcher) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("temper_requests", "Requests by status", ["status"], registry=self.registry)
        self.pictures = Counter("temper_pictures", "Pictures answered, by version", ["version"], registry=self.registry)
        self.seconds = Histogram(
            "temper_request_seconds", "From arrival to answer", registry=self.registry, buckets=_SECONDS
        )
        waiting = Gauge("temper_waiting_pictures", "Pictures that wait", registry=self.registry)
        waiting.set_function(lambda: batcher.waiting)
        batches = Gauge("temper_batches", "Batches answered", registry=self.registry)
        batches.set_function(lambda: batcher.batches)
        version = Gauge("temper_model_version", "Version that answers; 0 for none", registry=self.registry)
        version.set_function(lambda: follower.model.place.version if follower.model else 0)


def make_app(
    follower: Follower, params: ServeParams, *, token: str | None = None, sample: Sample | None = None
) -> FastAPI:
    """The application.

    Args:
        follower: The model of the moment.
        params: Limits.
        token: What clients must send as `Authorization: Bearer TOKEN`; None lets everybody in.
        sample: Given the encoded pictures of answered requests.
    """
    batcher = Batcher(workers=len(os.sched_getaffinity(0)), max_batch=params.max_batch, max_queue=params.max_queue)
    metrics = _Metrics(follower, batcher)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        follower.start()
        yield
        follower.stop()
        batcher.close()

    app = FastAPI(
        title="temper",
        description="Answers of the champion to pictures.",
        lifespan=lifespan,
        openapi_tags=[{"name": "answers"}, {"name": "state"}],
    )

    async def predict(request: Request) -> Response:
        started = time.perf_counter()
        try:
            _check_token(request, token)
            async with asyncio.timeout(params.timeout_s):
                response = await _predict(request, follower, batcher, params, metrics, sample)
        except Refused as error:
            response = _refuse(error.status, error.why)
        except Unanswerable as error:
            response = _refuse(422, str(error))
        except Full:
            response = _refuse(503, f"{params.max_queue} pictures wait already; try again in a moment")
        except TimeoutError:
            response = _refuse(
                503, f"not answered within {params.timeout_s:g} s; try again, or send fewer pictures at once"
            )
        metrics.requests.labels(str(response.status_code)).inc()
        metrics.seconds.observe(time.perf_counter() - started)
        return response

    app.add_api_route(
        "/predict",
        predict,
        methods=["POST"],
        summary="Answer one or many pictures",
        tags=["answers"],
        openapi_extra=_OPENAPI,
        responses={200: {"description": "The answers, in order", "content": {"application/json": {}}}, **_REFUSALS},
    )
    _add_state(app, follower, metrics)
    return app


def _add_state(app: FastAPI, follower: Follower, metrics: _Metrics) -> None:
    @app.get("/health", summary="Is the process alive?", tags=["state"])
    async def health() -> dict[str, str]:
        return {"status": "alive"}

    @app.get("/ready", summary="Is there a model to answer with?", tags=["state"], responses={503: _REFUSALS[503]})
    async def ready() -> Response:
        if follower.model is None:
            return _refuse(503, f"no model: {follower.problem}")
        return _answer({"status": "ready", "version": follower.model.place.version})

    @app.get("/model", summary="Which model answers?", tags=["state"], responses={503: _REFUSALS[503]})
    async def model() -> Response:
        if follower.model is None:
            return _refuse(503, f"no model: {follower.problem}")
        return _answer({**_name(follower.model), "metadata": _card(follower.model), "not_served": follower.problem})

    @app.get("/metrics", summary="For Prometheus", tags=["state"])
    async def prometheus() -> Response:
        return Response(generate_latest(metrics.registry), media_type="text/plain; version=0.0.4")


async def _predict(
    request: Request,
    follower: Follower,
    batcher: Batcher,
    params: ServeParams,
    metrics: _Metrics,
    sample: Sample | None,
) -> Response:
    model = follower.model
    if model is None:
        raise Refused(503, f"no model: {follower.problem}")
    images, files = await _read(request, model, params)
    answers = await batcher.answer(model, images)
    metrics.pictures.labels(str(model.place.version)).inc(len(images))
    if sample is not None and files:
        sample(files)
    return _answer({"model": _name(model), "answers": _as_answers(answers, model.classes, len(images))})


async def _read(request: Request, model: Model, params: ServeParams) -> tuple[np.ndarray, list[bytes]]:
    """The pictures of a request, and their files where they came encoded."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    elsewhere = partial(asyncio.get_running_loop().run_in_executor, None)
    if kind == "multipart/form-data":
        files = await _read_form(request, params)
        return await elsewhere(requests.decode, files, model, params), files
    if kind not in ("application/json", "application/octet-stream", *_PICTURES):
        raise Refused(
            415,
            f"content-type {kind[:80]!r} is not understood; send a form, JSON, application/octet-stream or a picture",
        )
    body = await requests.read_body(request.stream(), request.headers, params.max_bytes)
    if kind == "application/json":
        # Small ones at once: handing over costs more than reading.
        images = (
            requests.read_json(body, model, params)
            if len(body) < 1 << 15
            else await elsewhere(requests.read_json, body, model, params)
        )
        return images, []
    shape = request.query_params.get("shape")
    if shape is not None and kind == "application/octet-stream":
        return requests.read_raw(body, shape, model, params), []
    return await elsewhere(requests.decode, [body], model, params), [body]


async def _read_form(request: Request, params: ServeParams) -> list[bytes]:
    body = await requests.read_body(request.stream(), request.headers, params.max_bytes)

    async def again() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request(request.scope, again).form(max_files=params.max_pictures, max_fields=params.max_pictures)
    except (MultiPartException, ValueError, KeyError) as error:
        raise Refused(400, f"the form cannot be read: {error}") from None
    except Exception as error:  # the parser of forms raises its own, and Starlette turns some into HTTP's
        raise Refused(400, f"the form cannot be read: {getattr(error, 'detail', error)}") from None
    try:
        files = [value for name, value in form.multi_items() if name == "image"]
        if any(isinstance(value, str) for value in files) or not files:
            raise Refused(422, "the form needs one or more files named `image`")
        return [await value.read() for value in files if not isinstance(value, str)]
    finally:
        await form.close()


def _check_token(request: Request, token: str | None) -> None:
    if token is None:
        return
    sent = request.headers.get("authorization", "")
    if not hmac.compare_digest(sent.encode(), f"Bearer {token}".encode()):
        raise Refused(401, "send the header Authorization: Bearer TOKEN")


def _as_answers(answers: dict[str, np.ndarray], classes: list[str], count: int) -> list[dict[str, Any]]:
    """One answer a picture; where there is a number for every class, also the class with the highest."""
    found: list[dict[str, Any]] = [{} for _ in range(count)]
    for name, values in answers.items():
        for answer, value in zip(found, values, strict=True):
            answer[name] = value
            if value.shape == (len(classes),) and value.dtype.kind == "f":
                best = int(value.argmax())
                answer["class"], answer["score"] = classes[best], float(value[best])
    return found


def _name(model: Model) -> dict[str, Any]:
    return {
        "name": model.place.name,
        "version": model.place.version,
        "digest": model.place.digest,
        "classes": model.classes,
    }


def _card(model: Model) -> dict[str, Any]:
    """What the file says about itself."""
    return dict(sorted(model.metadata.items()))


def _answer(value: Any) -> Response:
    return Response(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")


def _refuse(status: int, why: str) -> Response:
    headers = {401: {"WWW-Authenticate": "Bearer"}, 503: {"Retry-After": "1"}}.get(status)
    return Response(orjson.dumps({"error": why}), status, headers, "application/json")
