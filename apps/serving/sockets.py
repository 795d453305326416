"""uvicorn's two protocols, within bounds that it does not set itself: on their time, their number and their memory."""

import asyncio
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

from streamdrnn.apps.serving.frames import MOST_HEADER, frame_of, frame_size, message_of
from streamdrnn.apps.serving.limits import Budget
from streamdrnn.apps.serving.shortcut import EXTENSION

CONNECTIONS_PER_SECOND = 100.0
"""New connections that are read from, on average; more wait for their turns, and so do not hold up the streams."""
MOST_WAITING = 200
"""New connections that may wait for a turn; one more is dropped."""
HTTP_SECONDS = 10.0
"""How long a connection may take before it is a WebSocket, or until its one request is answered."""
LEAVE_SECONDS = 10.0
"""How long a client may take to read what is left for it when its stream has ended."""
FRAMES_PER_SECOND, MOST_FRAMES = 10.0, 50.0
"""Frames that carry no message, on average and at once: pings, pongs, small parts, all that follows the end."""
_SMALL_PART = 1024
"""Bytes; parts of messages as large as this are bounded by the size of a message."""


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
            connection.transport.abort()
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

    A third of uvicorn's ``limit_concurrency`` are places for such connections. When all are taken, the oldest makes
    room for the next: who connects and says nothing keeps nobody out. A third are for WebSockets; one more gets 503. A
    third is left for those that end, which are still counted.

    Args:
        admission: of new connections, for all of a server.
    """

    def __init__(self, *args: Any, admission: Admission, **options: Any) -> None:
        super().__init__(*args, **options)
        self._admission = admission
        self._early: bytes | None = b""  # what came before its turn; None from then on

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
        self._admission.ask(self)

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
            self.ws_protocol_class = partial(BoundedWebSocket, end=self._end)  # type: ignore[assignment]
            super().handle_websocket_upgrade(event)
            return
        self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many connections")

    def shutdown(self) -> None:
        self.loop.call_soon(super().shutdown)  # apart, too

    def send_400_response(self, msg: str) -> None:
        self._refuse(HTTPStatus.BAD_REQUEST, msg)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        """Answer without a body, which HEAD may not have, unless an answer has begun; and close."""
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            headers = [("connection", "close"), ("content-length", "0")]
            answer = h11.Response(status_code=status, headers=headers, reason=reason), h11.EndOfMessage()
            self.transport.write(b"".join(self.conn.send(part) or b"" for part in answer))
        if self.cycle is not None:
            self.cycle.disconnected = True  # the application's own answer comes too late
        self.transport.close()

    @property
    def _places(self) -> int:
        assert self.limit_concurrency is not None
        return self.limit_concurrency // 3


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose peer can make the server neither keep nor parse more than it serves.

    What was received is parsed up to the next message, and further when that one is taken. So a peer that sends
    thousands of frames at once waits for itself. Frames that carry no message have a budget of their own, before a
    stream is opened and after it has ended, too.

    It is a :class:`Shortcut` past ASGI, whose queues, tasks and pauses cost as much for each message as all the rest.

    Args:
        end: cuts the connection off, until the handshake is answered with 101.
    """

    def __init__(self, *args: Any, end: asyncio.TimerHandle, **options: Any) -> None:
        super().__init__(*args, **options)
        self.hear: Callable[[bytes], bool] | None = None
        self._is_awaited = False  # the application has taken all that came, and waits for more
        self._end = end
        self._unparsed = bytearray()
        self._frames = Budget(FRAMES_PER_SECOND, MOST_FRAMES, time.monotonic())

    def data_received(self, data: bytes) -> None:
        if not self.handshake_initiated:
            self._shake_hands(data)
        elif self._unparsed or self.read_paused or not self._heard(data):
            self._unparsed += data
            self._parse()

    def _shake_hands(self, data: bytes) -> None:
        """Take the whole request; to websockets it may be none, though it is one to h11."""
        super().data_received(data)
        if not self.handshake_initiated and not self.transport.is_closing():
            answer = b"".join(self.conn.data_to_send()) or self.conn.reject(HTTPStatus.BAD_REQUEST, "").serialize()
            self.transport.write(answer)
            self.transport.close()

    def handle_connect(self, event: Request) -> None:
        super().handle_connect(event)
        if self.response.status_code == HTTPStatus.SWITCHING_PROTOCOLS:
            extensions: dict[str, Any] = self.scope["extensions"]
            extensions[EXTENSION] = self

    async def receive(self) -> Any:
        self._is_awaited = True
        try:
            message = await super().receive()
        finally:
            self._is_awaited = False
        self._parse()
        return message

    async def send(self, message: Any) -> None:
        await super().send(message)
        if message["type"] == "websocket.accept" and self.handshake_complete:
            self._end.cancel()
            self._parse()  # before 101 even a ping would have been answered

    def say(self, message: bytes | str) -> bool:
        if not self.writable.is_set() or self.transport.is_closing() or self.conn.state is not State.OPEN:
            return False
        self.transport.write(frame_of(message))
        return True

    def handle_ping(self) -> None:
        self._spend()
        if self.writable.is_set():
            super().handle_ping()
        else:
            self.conn.data_to_send()  # there is more to read than is read: no pong

    def handle_pong(self, event: Frame) -> None:
        self._spend()
        super().handle_pong(event)

    def handle_cont(self, event: Frame) -> None:
        self._count(event)
        super().handle_cont(event)

    def handle_text(self, event: Frame) -> None:
        self._count(event)
        super().handle_text(event)

    def handle_bytes(self, event: Frame) -> None:
        self._count(event)
        super().handle_bytes(event)

    def on_task_complete(self, task: asyncio.Task[None]) -> None:
        super().on_task_complete(task)
        if not self.disconnected:
            # To close alone would wait until all is read, for ever if need be.
            self._end.cancel()
            self._end = self.loop.call_later(LEAVE_SECONDS, self.transport.abort)
            self._parse()  # the peer's answer to our close may be there already

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unparsed.clear()
        self._end.cancel()

    def shutdown(self) -> None:
        self.loop.call_soon(self._shut_down)  # apart: uvicorn asks all in one loop, and an error would end it

    def _shut_down(self) -> None:
        if self.conn.state is State.OPEN:
            super().shutdown()
        else:
            self.stop_keepalive()
            self.transport.close()

    def _heard(self, data: bytes) -> bool:
        """Whether some bytes were one whole message that the application took, past the parser and ASGI."""
        if self.hear is None or not self._is_awaited or self.frames:  # those of a message whose last one is to come
            return False
        message = message_of(data, self.config.ws_max_size)
        if message is None:
            return False
        if not self.hear(message):
            self.hear = None  # what follows waits, unparsed
        return True

    def _parse(self) -> None:
        """Parse what was received frame by frame, until a message waits to be taken."""
        while self._unparsed and self.handshake_complete and not (self.read_paused or self.transport.is_closing()):
            size = frame_size(self._unparsed)
            if size is None or len(self._unparsed) < size <= self.config.ws_max_size + MOST_HEADER:
                return  # the rest of it is to come
            frame = bytes(self._unparsed[:size])
            del self._unparsed[:size]
            if not self._heard(frame):
                super().data_received(frame)

    def _count(self, event: Frame) -> None:
        if self.close_sent or (not event.fin and len(event.data) < _SMALL_PART):
            self._spend()

    def _spend(self) -> None:
        if self.transport.is_closing() or self._frames.spend(1, time.monotonic()) is None:
            return
        self.conn.fail(CloseCode.POLICY_VIOLATION, "too many frames without a message")
        self.transport.write(b"".join(self.conn.data_to_send()))
        self.queue.put_nowait({"type": "websocket.disconnect", "code": CloseCode.POLICY_VIOLATION})
        self.close_sent = True
        self.transport.close()
