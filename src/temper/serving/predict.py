"""`POST /predict` as a separate ASGI application: a request passes only through the layers that it needs.

Work that takes less time than handing it to a thread is done in place. Other work (large images, long
lists) is done in threads, so that one client does not delay the others.
"""

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any
from urllib.parse import parse_qs

import numpy as np
import orjson
from starlette.formparsers import MultiPartException
from starlette.requests import Request

from temper.data.examples import Example, write_example
from temper.fields import Frame
from temper.serve_params import ServeParams
from temper.serving import request_decoding
from temper.serving.answers import as_json
from temper.serving.batcher import Batcher, Full
from temper.serving.metrics import Metrics
from temper.serving.model_follower import Follower, Model, Unanswerable
from temper.serving.request_decoding import Refused

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Sample = Callable[[list[bytes]], object]
IMAGES = ("image/jpeg", "image/png", "image/webp", "image/bmp", "image/gif", "image/tiff")
"""Content types of encoded images in the description of the server. Any other `image/...` is decoded too."""
_JSON, _RAW, _FORM = "application/json", "application/octet-stream", "multipart/form-data"
_KINDS = {kind.encode(): kind for kind in (_JSON, _RAW, _FORM)}
_AT_ONCE_BYTES = 1 << 15
_AT_ONCE_PIXELS = 1 << 14


@dataclass(frozen=True, slots=True)
class _Sent:
    """The examples of a request."""

    given: Mapping[str, np.ndarray]
    """What the model sees: its inputs by name, [examples, ...]."""
    frames: Sequence[Frame]
    """Where each image lies in the image that was sent."""
    files: list[bytes]
    """What is stored of them: files of images that were sent encoded, or lines of JSON."""


def _as_sent(model: Model, images: np.ndarray) -> _Sent:
    """Return images, or clips, that were sent as pixels."""
    (name,) = model.facts
    return _Sent({name: images}, (Frame(*images.shape[-3:-1]),) * len(images), [])


@dataclass(frozen=True)
class Predict:
    """The application behind `POST /predict`.

    Args:
        follower: Provides the current model.
        batcher: Queue of the images that wait for it.
        params: Limits.
        metrics: Counts every request.
        token: Token that clients must send; None allows every client.
        sample: Called with what is stored of answered requests: encoded images, or lines of JSON.
    """

    follower: Follower
    batcher: Batcher
    params: ServeParams
    metrics: Metrics
    token: str | None
    sample: Sample | None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        started = time.perf_counter()
        params, status, headers = self.params, 200, _HEADERS
        try:
            async with asyncio.timeout(params.timeout_s):
                body = await self._answer(scope, receive)
        except Refused as error:
            status, body = error.status, _as_reason(error.why)
        except Unanswerable as error:
            status, body = 422, _as_reason(str(error))
        except Full:
            status, body = (
                503,
                _as_reason(f"{params.max_queue} images are already waiting; try again in a moment"),
            )
        except TimeoutError:
            if _ARRIVED in scope:
                why = f"not answered within {params.timeout_s:g} s; try again, or send fewer images at once"
                status, body = 503, _as_reason(why)
            else:
                status, body = (
                    408,
                    _as_reason(f"the request did not arrive completely within {params.timeout_s:g} s"),
                )
        if status in EXTRA:
            headers = [*_HEADERS, EXTRA[status]]
        length = (b"content-length", str(len(body)).encode())
        # Counted before it is sent: whoever has an answer finds it in the metrics.
        self.metrics.ended(status, time.perf_counter() - started, self.batcher.waiting)
        await send({"type": "http.response.start", "status": status, "headers": [*headers, length]})
        await send({"type": "http.response.body", "body": body})

    @cached_property
    def _small(self) -> ServeParams:
        return replace(self.params, max_pixels=min(_AT_ONCE_PIXELS, self.params.max_pixels))

    async def _answer(self, scope: Message, receive: Receive) -> bytes:
        if scope["method"] != "POST":
            raise Refused(405, f"{scope['method']} is not allowed here; send images by POST")
        headers: dict[bytes, bytes] = dict(scope["headers"])
        self._check_token(headers)
        model = self.follower.model
        if model is None:
            raise Refused(503, f"no model: {self.follower.problem}")
        asked = _asked(scope["query_string"], "least_score")
        least = 0.0 if asked is None else request_decoding.read_least_score(asked, model)
        sent = await self._read(scope, headers, receive, model)
        answers = await self.batcher.answer(model, sent.given)
        self.metrics.answered(model.place.version, len(sent.frames))
        if self.sample is not None and sent.files:
            self.sample(sent.files)
        found = as_json(answers, model.fields, sent.frames, least_score=least)
        return b'{"model":%s,"answers":%s}' % (model.name_json, found)

    def _check_token(self, headers: dict[bytes, bytes]) -> None:
        if self.token is None:
            return
        sent = headers.get(b"authorization", b"").decode("latin-1")
        if not hmac.compare_digest(sent.encode(), f"Bearer {self.token}".encode()):
            raise Refused(401, "send the header Authorization: Bearer TOKEN")

    async def _read(
        self, scope: Message, headers: dict[bytes, bytes], receive: Receive, model: Model
    ) -> _Sent:
        sent = headers.get(b"content-type", b"").partition(b";")[0].strip().lower()
        # Clients name images in many ways (image/jpg, image/x-png): the content decides.
        kind = IMAGES[0] if sent.startswith(b"image/") else _KINDS.get(sent)
        if kind is None:
            raise Refused(
                415,
                f"content-type {sent[:80].decode('latin-1')!r} is not supported; "
                "send a form, JSON, application/octet-stream or an image",
            )
        body = await _read_body(receive, headers.get(b"content-length", b""), self.params.max_bytes)
        scope[_ARRIVED] = True
        if kind == _FORM:
            return await self._decode(await _read_form(scope, body, model, self.params), model)
        if kind == _JSON:
            if (examples := request_decoding.read_examples(body)) is not None:
                return await self._decode(examples, model)
            read = request_decoding.read_json
            if len(body) < _AT_ONCE_BYTES:
                return _as_sent(model, read(body, model, self.params))
            return _as_sent(model, await asyncio.to_thread(read, body, model, self.params))
        if kind == _RAW and (shape := _asked(scope["query_string"], "shape")):
            return _as_sent(model, request_decoding.read_raw(body, shape, model, self.params))
        try:
            return await self._decode([{next(iter(model.facts)): body}], model)
        except Refused as error:
            if kind == _RAW and error.status == 422:
                raise Refused(
                    422, f"{error.why}; raw pixels need their shape: ?shape=images,height,width,channels"
                ) from None
            raise

    async def _decode(self, examples: Sequence[Example], model: Model) -> _Sent:
        decode = request_decoding.decode
        if len(examples) == 1 and _is_small(examples[0]):
            try:
                return self._decoded(*decode(examples, model, self._small), examples)
            except Refused as error:
                if error.status != 413:
                    raise
        until = time.monotonic() + self.params.timeout_s
        found = await asyncio.to_thread(decode, examples, model, self.params, until=until)
        return self._decoded(*found, examples)

    def _decoded(
        self, given: Mapping[str, np.ndarray], frames: Sequence[Frame], examples: Sequence[Example]
    ) -> _Sent:
        return _Sent(given, frames, [] if self.sample is None else [_as_file(each) for each in examples])


_HEADERS = [(b"content-type", b"application/json")]
EXTRA = {
    401: (b"www-authenticate", b"Bearer"),
    405: (b"allow", b"POST"),
    408: (b"connection", b"close"),
    503: (b"retry-after", b"1"),
}
"""Status -> header of refusals with this status."""
_ARRIVED = "temper.arrived"
"""Key in a request's scope: the complete body has arrived."""


@lru_cache(256)
def _asked(query: bytes, name: str) -> str | None:
    """Return a value of the query; None if it is left out."""
    return parse_qs(query.decode("latin-1"), keep_blank_values=True).get(name, [None])[-1]


async def _read_body(receive: Receive, content_length: bytes, max_bytes: int) -> bytes:
    """Read a request's body; refuse more than `max_bytes`, without reading if `content_length` says so."""
    too_large = f"the request is larger than {max_bytes} bytes"
    if content_length.isdigit() and int(content_length) > max_bytes:
        raise Refused(413, too_large)
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Refused(400, "the client disconnected before it had sent the complete request")
        part, more = message.get("body", b""), message.get("more_body", False)
        size += len(part)
        if size > max_bytes:
            raise Refused(413, too_large)
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _is_small(example: Example) -> bool:
    """Return whether an example is decoded in less time than handing it to a thread takes."""
    values = example.values() if isinstance(example, Mapping) else ()
    return all(not isinstance(value, bytes | str) or len(value) < _AT_ONCE_BYTES for value in values)


def _as_file(example: Example) -> bytes:
    """Return what the inbox stores of an example: the file of an image alone, or a line of JSON."""
    first, *others = example.values()
    return first if isinstance(first, bytes) and not others else write_example(example)


async def _read_form(scope: Message, body: bytes, model: Model, params: ServeParams) -> list[Example]:
    """Return the examples of a form: files alone, or the inputs of one example, each in a field of its name.

    A row of a table is JSON.
    """

    async def again() -> Message:
        return {"type": "http.request", "body": body, "more_body": False}

    try:
        form = await Request(scope, again).form(max_files=params.max_images, max_fields=params.max_images)
    except (MultiPartException, ValueError, KeyError) as error:
        raise Refused(400, f"the form cannot be read: {error}") from None
    except Exception as error:  # the form parser's own errors; Starlette turns some into HTTP errors
        raise Refused(400, f"the form cannot be read: {getattr(error, 'detail', error)}") from None
    try:
        fields = [
            (name, value if isinstance(value, str) else await value.read())
            for name, value in form.multi_items()
        ]
        if model.alone is None:
            names = [name for name, _ in fields]
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise Refused(
                    422,
                    f"the form has the field {twice[0]!r} several times, but it is one example; send several "
                    "as JSON",
                )
            return [dict(fields)]
        (only,) = model.facts
        files: list[Example] = [{name: value} for name, value in fields if name == only]
        if any(isinstance(value, str) for each in files for value in each.values()) or not files:
            raise Refused(422, f"the form needs one or more files named `{only}`")
        return files
    finally:
        await form.close()


def _as_reason(why: str) -> bytes:
    return orjson.dumps({"error": why})
