"""One page that listens: its messages, and what it is told."""

import asyncio
import json
from collections.abc import Callable
from typing import Any, Optional

from starlette.websockets import WebSocket, WebSocketDisconnect

from streamdrnn.apps.speaker_id.conversation import Conversation
from streamdrnn.apps.speaker_id.enrolment import Enrolled
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.session import Event, Report, Summary, listen
from streamdrnn.apps.speaker_id.sinks.json_lines import as_object
from streamdrnn.apps.speaker_id.sources.source import Chunk
from streamdrnn.apps.speaker_id.web.browser_source import BrowserSource
from streamdrnn.errors import InputError

IDLE_SECONDS = 30.0
MAX_TEXT = 1000
MAX_WAITING = 500
"""Events that a page may leave unread."""
REFUSING_SECONDS = 2.0
"""A page that does not read is not told for ever why it is let go."""


class Listener:
    """Serves one page: samples in, events out.

    The page begins with ``{"type": "open", "sample_rate": 48000}``. Then it sends samples as binary messages, and may
    send ``{"type": "enrol", "name": "Anna"}``, ``{"type": "stop enrolling"}`` and ``{"type": "restart"}``. It is told
    ``{"event": "ready", "voices": [...]}``, the events of ``listen --json``, with each report how the session runs
    (``"summary"``), and ``{"event": "error", "message": ...}``; an error of the protocol ends the connection.

    Args:
        socket: the connection, accepted.
        model, store, threshold: as for :class:`Conversation`.
    """

    def __init__(self, socket: WebSocket, model: SpeakerModel, store: ProfileStore, threshold: float) -> None:
        self._socket = socket
        self._model, self._store, self._threshold = model, store, threshold
        self._events: asyncio.Queue[dict[str, Any]] = asyncio.Queue(MAX_WAITING)

    async def run(self) -> None:
        """Serve until either side ends it."""
        source: Optional[BrowserSource] = None
        try:
            source = BrowserSource((await self._opening()).get("sample_rate"))
            conversation = await asyncio.to_thread(
                Conversation, self._model, self._store, self._threshold, source.sample_rate
            )
            sink = _PageSink(self._tell, conversation, source)
            sink.tell_voices()
            async with asyncio.TaskGroup() as tasks:
                hearing = tasks.create_task(asyncio.to_thread(listen, source, conversation, [sink]))
                sending = tasks.create_task(self._send())
                await self._receive(source, conversation)
                source.end()
                await hearing
                sending.cancel()
        except* WebSocketDisconnect:
            pass
        except* (OSError, ValueError) as errors:
            await self._refuse(str(errors.exceptions[0]))
        finally:
            if source is not None:
                source.end()

    async def _opening(self) -> dict[str, Any]:
        message = await self._next()
        opening = _parse(message.get("text"))
        if opening.get("type") != "open":
            raise InputError(f"type: expected open, got {opening.get('type')!r:.40}")
        return opening

    async def _receive(self, source: BrowserSource, conversation: Conversation) -> None:
        """Take the page's messages until it leaves."""
        while True:
            message = await self._next()
            samples = message.get("bytes")
            if samples is not None:
                source.receive(samples)
            else:
                await self._request(_parse(message.get("text")), conversation)

    async def _next(self) -> dict[str, Any]:
        try:
            message = dict(await asyncio.wait_for(self._socket.receive(), IDLE_SECONDS))
        except TimeoutError:
            raise InputError(f"nothing came for {IDLE_SECONDS:g} s") from None
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect
        return message

    async def _request(self, request: dict[str, Any], conversation: Conversation) -> None:
        kind = request.get("type")
        if kind == "enrol":
            name = _text(request.get("name"))
            try:
                await asyncio.to_thread(conversation.enrol, name)
            except ValueError as error:  # the name cannot be one: listening goes on
                self._tell({"event": "error", "message": str(error)})
        elif kind == "stop enrolling":
            conversation.cancel_enrolment()
        elif kind == "restart":
            conversation.restart()
        else:
            raise InputError(f"type: expected enrol, stop enrolling or restart, got {kind!r:.40}")

    def _tell(self, event: dict[str, Any]) -> None:
        try:
            self._events.put_nowait(event)
        except asyncio.QueueFull:
            raise OSError("the page does not read what it is told") from None

    async def _send(self) -> None:
        while True:
            await self._socket.send_text(json.dumps(await self._events.get(), ensure_ascii=False))

    async def _refuse(self, reason: str) -> None:
        try:
            async with asyncio.timeout(REFUSING_SECONDS):
                await self._socket.send_text(json.dumps({"event": "error", "message": reason}))
                await self._socket.close(1008)
        except (RuntimeError, WebSocketDisconnect, TimeoutError):  # it has gone already, or does not read
            pass


class _PageSink:
    """Hands the events of the thread that listens to the loop that sends them."""

    def __init__(
        self, tell: Callable[[dict[str, Any]], None], conversation: Conversation, source: BrowserSource
    ) -> None:
        self._tell_page, self._conversation, self._source = tell, conversation, source
        self._loop = asyncio.get_running_loop()

    def tell_voices(self) -> None:
        self._tell({"event": "ready", "voices": self._conversation.names})

    def hear(self, chunk: Chunk) -> None:
        """The page has the samples already."""

    def take(self, event: Event) -> None:
        self._tell(as_object(event))
        if isinstance(event, Report):
            self._tell({"event": "summary", **self._conversation.summary._asdict(), "waiting": self._source.depth})
        elif isinstance(event, Enrolled):
            self.tell_voices()

    def finish(self, summary: Summary) -> None:
        """The page has left."""

    def _tell(self, event: dict[str, Any]) -> None:
        self._loop.call_soon_threadsafe(self._put, event)

    def _put(self, event: dict[str, Any]) -> None:
        try:
            self._tell_page(event)
        except OSError as error:
            self._source.end(error)


def _parse(text: Optional[str]) -> dict[str, Any]:
    try:
        message = json.loads(text) if text is not None and len(text) <= MAX_TEXT else None
    except (ValueError, RecursionError):
        message = None
    if not isinstance(message, dict):
        raise InputError(f"expected a JSON object of at most {MAX_TEXT} characters")
    return message


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise InputError(f"name: expected a text, got {value!r:.40}")
    return value
