"""A client's connection: uvicorn's, but the processes share them fairly, and one that begins a request must come to an end of its head.

Processes that listen at the same socket race for each connection, and one that runs already wins: of 32 that come at once it got 27 or all.
So whoever takes one rests for a moment, in which the others come to their turn: 16 and 16. Where connections come and go, one for each request,
they are even anyway, and a rest would only cost.

uvicorn's own clock runs between requests only; whoever opens a connection and sends nothing, or half a line, would hold it for ever.
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
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
    % (len(_WHY), _WHY)
)


class Connection(HttpToolsProtocol):
    """Closed if no whole head of a request arrives within `timeout_keep_alive` seconds."""

    _closed: ClassVar[float] = -math.inf
    """When this process last lost a connection, by the loop's clock."""
    _waiting: TimerHandle | None = None
    _begun = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()
        if len(self.connections) > 1 and self.loop.time() - Connection._closed > _AGO_S:
            time.sleep(_REST_S)  # the whole process: it shall not take the next one

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
            self._wait()  # a request before this one is being answered
            return
        self._waiting = None
        if self._begun:
            self.transport.write(_LATE)
        self.transport.close()
