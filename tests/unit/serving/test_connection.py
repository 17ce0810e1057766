"""A connection without a complete request is closed; one with a request is not."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
import uvicorn

from temper.serving.connection import Connection

pytestmark = pytest.mark.enable_socket
SLOW_S = 2.5
"""Time of the slow answer; longer than a request head may take."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    if scope["path"] == "/slow":
        await asyncio.sleep(SLOW_S)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@pytest.fixture
def port() -> Iterator[int]:
    server = uvicorn.Server(
        uvicorn.Config(
            app, port=0, http=Connection, timeout_keep_alive=1, lifespan="off", log_level="critical"
        )
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    yield server.servers[0].sockets[0].getsockname()[1]
    server.should_exit = True
    thread.join()


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def read(client: socket.socket) -> bytes:
    """Read until the server closes the connection."""
    found = b""
    while part := client.recv(1000):
        found += part
    return found


def test_who_says_nothing_is_sent_away(port: int):
    with connect(port) as client:
        started = time.monotonic()
        assert read(client) == b""
        assert time.monotonic() - started >= 0.9


@pytest.mark.parametrize("before", [b"", b"GET / HTTP/1.1\r\nhost: a\r\n\r\n"], ids=["first", "second"])
def test_half_a_head_is_refused_in_words(port: int, before: bytes):
    with connect(port) as client:
        if before:
            client.sendall(before)
            assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.sendall(b"POST /predict HTTP/1.1\r\nhost: ")
        head, _, body = read(client).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 408 ") and f"content-length: {len(body)}".encode() in head
    assert b"took too long" in body


def test_who_drips_a_head_is_sent_away_all_the_same(port: int):
    def drip(client: socket.socket) -> None:
        for number in range(60):
            client.sendall(b"GET "[number : number + 1] or b"/")
            time.sleep(0.1)

    with connect(port) as client, pytest.raises(OSError, match=r"pipe|reset"):
        drip(client)


def test_an_answer_may_take_longer(port: int):
    with connect(port) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")


def test_a_head_behind_a_slow_answer_waits_for_it(port: int):
    with connect(port) as client:
        client.sendall(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\nGET / HT")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
        client.sendall(b"TP/1.1\r\nhost: a\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200")
