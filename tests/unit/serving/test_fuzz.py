"""No request causes a 500 or a crash.

`TEMPER_FUZZ=10000` sends more requests, which also tests the server's memory.
"""

import asyncio
import http.client
import io
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from urllib.parse import quote

import numpy as np
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from temper.serving.app import make_app
from temper.serving.model_follower import Follower
from tests.project import ROOT, free_port
from tests.unit.serving.served import SMALL, ask, make_place

COUNT = int(os.environ.get("TEMPER_FUZZ", "300"))
FUZZ = settings(
    max_examples=COUNT,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
KNOWN = {200, 400, 404, 405, 413, 415, 422}
KINDS = (
    "application/json",
    "application/octet-stream",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/webp",
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "text/plain",
    "",
)


def image(kind: str, side: int) -> bytes:
    target = io.BytesIO()
    Image.fromarray(np.arange(side * side, dtype=np.uint8).reshape(side, side)).save(target, kind)
    return target.getvalue()


IMAGES = [image(kind, side) for kind in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP") for side in (1, 4, 16)]
PIXEL = st.one_of(st.integers(-2, 300), st.floats(), st.none(), st.text(max_size=3), st.booleans())
NESTED = st.recursive(PIXEL, lambda inner: st.lists(inner, max_size=4), max_leaves=32)


def nest(depth: int) -> object:
    return [nest(depth - 1)] if depth else 7


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Draw an image with a part cut off, overwritten or inserted twice."""
    raw = draw(st.sampled_from(IMAGES))
    place = draw(st.integers(0, len(raw)))
    return raw[:place] + draw(st.binary(max_size=8)) + raw[place + draw(st.integers(-4, 8)) :]


@st.composite
def bodies(draw: st.DrawFn) -> bytes:
    """Draw images, damaged images, nearly correct JSON, nearly correct forms, and noise."""
    import json

    part = draw(st.one_of(st.binary(max_size=64), damaged(), st.sampled_from(IMAGES)))
    way = draw(st.sampled_from(("part", "json", "form", "long")))
    if way == "json":
        value = draw(
            st.one_of(
                NESTED,
                st.fixed_dictionaries({"image": NESTED}),
                st.dictionaries(st.text(max_size=6), NESTED, max_size=3),
                st.integers(1, 200).map(lambda depth: {"image": nest(depth)}),
            )
        )
        return json.dumps(value).encode()
    if way == "form":
        name = draw(st.sampled_from(("image", "image", "other", "", '"', "\r\n")))
        file = draw(st.sampled_from(('; filename="a.png"', "", "; filename*=utf-8''%ff", '; filename="')))
        head = f'Content-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode()
        end = draw(st.sampled_from((b"\r\n--x--\r\n", b"", b"\r\n--x", b"--x--")))
        return (b"--x\r\n" + head + part) * draw(st.integers(1, 6)) + end
    if way == "long":
        return part * draw(st.integers(1, 400))
    return part


GOOD = {"method": "POST", "query": b"", "headers": {"content-type": "image/png"}}


@st.composite
def requests(draw: st.DrawFn) -> dict:
    if draw(st.integers(0, 4)) == 0:  # some requests that must be answered
        return {
            **GOOD,
            "path": "/predict",
            "body": draw(st.sampled_from(IMAGES)),
            "pieces": draw(st.integers(1, 4)),
        }
    shape = draw(
        st.one_of(
            st.just(b""),
            st.text("0123456789,-x ", max_size=14).map(lambda text: f"shape={text}".encode()),
            st.binary(max_size=10),
        )
    )
    headers = {"content-type": draw(st.sampled_from(KINDS))}
    if draw(st.integers(0, 9)) == 0:
        headers["content-length"] = draw(st.text("0123456789-x", max_size=24))
    if draw(st.integers(0, 9)) == 0:
        headers["content-type"] = draw(st.text(st.characters(max_codepoint=255), max_size=60))
    return {
        "path": draw(st.sampled_from(("/predict",) * 12 + ("/ready", "/metrics", "/nowhere", "/docs"))),
        "method": draw(st.sampled_from(("POST",) * 9 + ("GET",))),
        "body": draw(bodies()),
        "query": shape,
        "headers": headers,
        "pieces": draw(st.integers(1, 4)),
    }


# Starlette leaves the files of an unreadable form to the garbage collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_whatever_is_sent_gets_an_answer_below_500(tmp_path: Path):
    place = make_place(tmp_path, 1)
    follower = Follower(lambda: place, say=lambda text: None)
    app = make_app(follower, SMALL)
    follower.look()
    seen: Counter[int] = Counter()
    with asyncio.Runner() as runner:

        @FUZZ
        @given(requests())
        def send(request: dict) -> None:
            said = runner.run(asyncio.wait_for(ask(app, **request), 20))
            seen[said.status] += 1
            assert said.status in KNOWN, (said.status, said.body[:500])

        send()
    assert seen[200] > COUNT / 50 and seen[422] > COUNT / 50, seen


@pytest.mark.enable_socket
@pytest.mark.timeout(3600)
def test_a_server_stands_it(tmp_path: Path):
    """Send the same over a socket: the process survives, and needs no more memory than before."""
    port = free_port()
    command = [sys.executable, "-m", "tests.unit.serving.served", str(tmp_path), str(port)]
    seen: Counter[int] = Counter()
    memory: list[int] = []
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as server:
        try:
            wait(port, server)
            for kind in KINDS:  # exclude from the measurement what is loaded at first use
                for body in (*IMAGES, b"noise" * 9):
                    ask_socket(
                        port, {**GOOD, "path": "/predict", "body": body, "headers": {"content-type": kind}}
                    )

            @FUZZ
            @given(requests())
            def send(request: dict) -> None:
                status = ask_socket(port, request)
                seen[status] += 1
                assert status in KNOWN, status
                memory.append(psutil.Process(server.pid).memory_info().rss)

            send()
            assert server.poll() is None and ask_socket(port, {"path": "/ready", "method": "GET"}) == 200
        finally:
            server.terminate()
    assert seen[200] > COUNT / 50, seen
    early, late = memory[len(memory) // 4], memory[-1]
    print(
        f"{seen.total()} requests: {dict(seen)}; "
        f"{early / 1e6:.0f} MB after a quarter, {late / 1e6:.0f} MB at the end"
    )
    assert late < early + 20e6


def ask_socket(port: int, request: dict) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    query = request.get("query", b"").decode("latin-1")
    # The test without a socket covers what no client library sends (a wrong length, control characters).
    headers = {
        "content-type": request.get("headers", {}).get("content-type", "").encode("ascii", "ignore").decode()
    }
    headers["content-type"] = "".join(c for c in headers["content-type"] if c.isprintable())
    try:
        connection.request(
            request["method"], f"{request['path']}?{quote(query, safe='=,&')}", request.get("body"), headers
        )
        response = connection.getresponse()
        response.read()
        return response.status
    finally:
        connection.close()


def wait(port: int, server: subprocess.Popen) -> None:
    until = time.monotonic() + 60
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            return
        except OSError:
            assert server.poll() is None and time.monotonic() < until
            time.sleep(0.2)
