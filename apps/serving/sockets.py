"""uvicorn's protocol of HTTP, within bounds that it does not set itself: on the time and the number of connections."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from streamdrnn.apps.serving.limits import Budget, Cut
from streamdrnn.apps.serving.websocket import BoundedWebSocket

CONNECTIONS_PER_SECOND = 100.0
"""New connections that are read from, on average; more wait for their turns, and so do not hold up the streams."""
MOST_WAITING = 200
"""New connections that may wait for a turn; one more is dropped."""
HTTP_SECONDS = 10.0
"""How long a connection may take before it is a WebSocket, or until its one request is answered."""


class Admission:
    """Turns of new connections, one after the other; those that have ended have none.

    Args:
        most: how many are read from at once, after a time without any.
    """

    def __init__(self, most: float) -> None:
        self._budget = Budget(CONNECTIONS_PER_SECOND, most, time.monotonic())
        self._waiting = deque["BoundedHTTP"]()

    def ask(self, connection: "BoundedHTTP") -> None:
        """Let a connection be read from when its turn comes."""
        if len(self._waiting) >= MOST_WAITING:
            connection.cut(Cut.TOO_MANY_WAITING)
            return
        self._waiting.append(connection)
        if len(self._waiting) == 1:
            self._admit()

    def _admit(self) -> None:
        while self._waiting:
            connection = self._waiting[0]
            if not connection.transport.is_closing():
                wait = self._budget.spend(1, time.monotonic())
                if wait is not None:
                    connection.loop.call_later(wait, self._admit)
                    return
                connection.loop.call_soon(connection.admit)  # apart: an error of one must not keep the others here
            self._waiting.popleft()


class BoundedHTTP(H11Protocol):
    """HTTP, until a WebSocket begins. h11 itself takes no more than 16 KiB of headers.

    A third of uvicorn's ``limit_concurrency`` are places for such connections, until they are closed. When all are
    taken, the oldest makes room for the next: who connects and says nothing keeps nobody out. As many are for
    WebSockets; one more gets 503.

    Args:
        admission: of new connections, for all of a server.
        refused: counts the connections that are cut off, by why.
    """

    def __init__(self, *args: Any, admission: Admission, refused: Callable[[Cut], object], **options: Any) -> None:
        super().__init__(*args, **options)
        self._admission, self._refused = admission, refused
        self._is_cut = False
        self._early: bytes | None = b""  # what came before its turn; None from then on

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._end = self.loop.call_later(HTTP_SECONDS, self.cut, Cut.TOO_SLOW)
        others = [
            other
            for other in self.connections
            if isinstance(other, BoundedHTTP) and other is not self and not other._is_cut
        ]
        if len(others) >= self._places:
            min(others, key=lambda other: other._end.when()).cut(Cut.PLACE_NEEDED)
        self._admission.ask(self)

    def cut(self, why: Cut) -> None:
        """End the connection now; one that closes waits for its peer, with TLS."""
        self._is_cut = True
        if not self.transport.is_closing():
            self._refused(why)
        self.transport.abort()

    def data_received(self, data: bytes) -> None:
        if self._early is None:
            super().data_received(data)
        else:
            self._early += data
            self.transport.pause_reading()

    def admit(self) -> None:
        """It has its turn."""
        early, self._early = self._early, None
        if early and not self.transport.is_closing():
            self.transport.resume_reading()
            super().data_received(early)

    def connection_lost(self, exc: Exception | None) -> None:
        self._end.cancel()
        super().connection_lost(exc)

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        websockets = sum(isinstance(other, BoundedWebSocket) for other in self.connections)
        if websockets < self._places:
            websocket = partial(BoundedWebSocket, end=self._end, refused=self._refused)
            self.ws_protocol_class = websocket  # type: ignore[assignment]
            super().handle_websocket_upgrade(event)
            return
        self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, Cut.TOO_MANY_WEBSOCKETS)

    def shutdown(self) -> None:
        self.loop.call_soon(super().shutdown)  # apart, too

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, Cut.BAD_REQUEST)

    def _refuse(self, status: HTTPStatus, why: Cut) -> None:
        """Answer without a body, which HEAD may not have, unless an answer has begun; and close."""
        if self.transport.is_closing():
            return
        self._refused(why)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [("connection", "close"), ("content-length", "0")]
            answer = h11.Response(status_code=status, headers=headers, reason=status.phrase), h11.EndOfMessage()
            self.transport.write(b"".join(self.conn.send(part) or b"" for part in answer))
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application's own answer comes too late
        self.transport.close()

    @property
    def _places(self) -> int:
        assert self.limit_concurrency is not None
        return self.limit_concurrency // 3
