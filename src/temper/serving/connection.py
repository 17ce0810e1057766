"""A client's connection: uvicorn's, and one that begins a request must come to an end of its head.

uvicorn's own clock runs between requests only; whoever opens a connection and sends nothing, or half a line, would hold it for ever.
"""

from asyncio import TimerHandle, Transport

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

_WHY = b'{"error":"the head of the request took too long to arrive"}'
_LATE = (
    b"HTTP/1.1 408 Request Timeout\r\ncontent-type: application/json\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%s"
    % (len(_WHY), _WHY)
)


class Connection(HttpToolsProtocol):
    """Closed if no whole head of a request arrives within `timeout_keep_alive` seconds."""

    _waiting: TimerHandle | None = None
    _begun = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._begun = True
        if self._waiting is None:
            self._wait()

    def on_headers_complete(self) -> None:
        self._begun = False
        self._rest()
        super().on_headers_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        self._rest()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.timeout_keep_alive, self._give_up)

    def _rest(self) -> None:
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
