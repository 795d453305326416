"""uvicorn's protocol of WebSockets, within bounds that it does not set itself: on its time and its memory."""

import asyncio
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.exceptions import PayloadTooBig
from websockets.frames import CloseCode, Frame
from websockets.http11 import Request
from websockets.protocol import State

from streamdrnn.apps.serving.frames import MOST_HEADER, frame_of, frame_size, message_of
from streamdrnn.apps.serving.limits import Budget, Cut
from streamdrnn.apps.serving.shortcut import EXTENSION

LEAVE_SECONDS = 10.0
"""How long a client may take to read what is left for it when its stream has ended."""
FRAMES_PER_SECOND, MOST_FRAMES = 10.0, 50.0
"""Frames that carry no message, on average and at once: pings, pongs, small parts, all that follows the end."""
_SMALL_PART = 1024
"""Bytes; parts of messages as large as this are bounded by the size of a message."""


class BoundedWebSocket(WebSocketsSansIOProtocol):
    """A WebSocket whose peer can make the server neither keep nor parse more than it serves.

    What was received is parsed up to the next message, and further when that one is taken. So a peer that sends
    thousands of frames at once waits for itself. Frames that carry no message have a budget of their own, before a
    stream is opened and after it has ended, too.

    It is a :class:`Shortcut` past ASGI, whose queues, tasks and pauses cost as much for each message as all the rest.

    Args:
        end: cuts the connection off, until the handshake is answered with 101.
        refused: counts the connections that are cut off, by why.
    """

    def __init__(self, *args: Any, end: asyncio.TimerHandle, refused: Callable[[Cut], object], **options: Any) -> None:
        super().__init__(*args, **options)
        self._refused = refused
        self.failed: tuple[int, str] | None = None
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
        if self.transport.is_closing():
            return
        super().data_received(data)
        if self.conn.handshake_exc is not None:
            self._refused(Cut.BAD_REQUEST)
        if not self.handshake_initiated:
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

    def handle_parser_exception(self) -> None:
        is_too_big = isinstance(self.conn.parser_exc, PayloadTooBig)
        self._cut_off(Cut.MESSAGE_TOO_LARGE if is_too_big else Cut.BAD_FRAME)

    def keepalive_timeout(self) -> None:
        self.stop_keepalive()
        if not self.close_sent and not self.transport.is_closing():
            self.conn.fail(CloseCode.INTERNAL_ERROR, "no pong came")
            self._cut_off(Cut.NO_PONG)

    def send_receive_event_to_app(self) -> None:
        """Take a whole message; uvicorn would log a text that is none, with a traceback."""
        if self.curr_msg_data_type == "text" and not self.close_sent:
            try:
                b"".join(self.frames).decode()
            except UnicodeDecodeError:
                self.conn.fail(CloseCode.INVALID_DATA, "expected text in UTF-8")
                self._cut_off(Cut.BAD_FRAME)
                return
        super().send_receive_event_to_app()

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
        self._cut_off(Cut.TOO_MANY_FRAMES)

    def _cut_off(self, why: Cut) -> None:
        """Let the application know that the peer is cut off."""
        self._refused(why)
        assert self.conn.close_sent is not None
        self.failed = self.conn.close_sent.code, self.conn.close_sent.reason
        super().handle_parser_exception()
