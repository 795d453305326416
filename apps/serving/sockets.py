"""uvicorn's two protocols, within bounds that it does not set itself: on their time, their number and their memory."""

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

HTTP_SECONDS = 10.0
"""How long a connection may take before it is a WebSocket, all its requests and their answers included."""
LEAVE_SECONDS = 10.0
"""How long a client may take to read what is left for it when its stream has ended."""


class BoundedHTTP(H11Protocol):
    """HTTP, until a WebSocket begins. h11 itself takes no more than 16 KiB of headers.

    A third of uvicorn's ``limit_concurrency`` are places for such connections. When all are taken, the oldest makes
    room for the next: who connects and says nothing keeps nobody out. A third are for WebSockets; one more gets 503. A
    third is left for those that end, which are still counted.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end = self.loop.call_later(HTTP_SECONDS, transport.abort)
        others = [
            other
            for other in self.connections
            if isinstance(other, BoundedHTTP) and other is not self and not other.transport.is_closing()
        ]
        if len(others) >= self._places:
            min(others, key=lambda other: other._end.when()).transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        websockets = sum(isinstance(other, BoundedWebSocket) for other in self.connections)
        if websockets < self._places:
            self._end.cancel()
            super().handle_websocket_upgrade(event)
            return
        text = b"too many connections"
        headers = [("connection", "close"), ("content-type", "text/plain"), ("content-length", str(len(text)))]
        answer = h11.Response(status_code=503, headers=headers), h11.Data(data=text), h11.EndOfMessage()
        self.transport.write(b"".join(self.conn.send(part) or b"" for part in answer))
        self.transport.close()

    @property
    def _places(self) -> int:
        assert self.limit_concurrency is not None
        return self.limit_concurrency // 3


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose peer cannot make the server keep what it does not read."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._end: asyncio.TimerHandle | None = None

    def handle_ping(self) -> None:
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # there is more to read than is read: no pong

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.disconnected:
            # To close alone would wait until all is read, for ever if need be.
            self._end = self.loop.call_later(LEAVE_SECONDS, self.transport.abort)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._end is not None:
            self._end.cancel()
