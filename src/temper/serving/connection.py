"""uvicorn's connections, shared fairly between processes, with a time limit for the head of a request.

Processes that listen on the same socket race for each connection, and a process that is already running
wins: of 32 simultaneous connections it got 27 or all. A process that accepts a connection therefore sleeps
for a moment, so that the others can accept the next ones: with two processes, 16 and 16. If every request
opens its own connection, the shares are even anyway, and sleeping would only cost time.

uvicorn's own timeout covers only the time between requests. A client that opens a connection and sends
nothing, or half a line, would hold it for ever.
"""

import math
import time
from asyncio import TimerHandle, Transport
from typing import ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_REST_S = 1e-4
_AGO_S = 0.002
_WHY = b'{"error":"the head of the request took too long to arrive"}'
_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\n"
    b"content-length: %d\r\nconnection: close\r\n\r\n%s" % (len(_WHY), _WHY)
)


class Connection(HttpToolsProtocol):
    """A connection that is closed if no complete request head arrives within `timeout_keep_alive` seconds."""

    _closed: ClassVar[float] = -math.inf
    """Time of the event loop when this process last lost a connection."""
    _waiting: TimerHandle | None = None
    _begun = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > 1 and self.loop.time() - Connection._closed > _AGO_S:
            time.sleep(_REST_S)  # stops the whole process, so that another one accepts the next connection

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        if self._waiting is None:
            self._wait()

    def on_headers_complete(self) -> None:
        self._begun = False
        self._stop_waiting()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_waiting()
        super().connection_lost(exc)
        Connection._closed = self.loop.time()

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        if self.cycle is not None and not self.cycle.response_complete:
            self._wait()  # the previous request is still being answered
            return
        self._waiting = None
        if self._begun:
            self.transport.write(_LATE)
        self.transport.close()
