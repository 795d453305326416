"""One WebSocket: its first message opens or continues a stream, then it carries that stream's messages."""

import asyncio
import json
import logging
import time
from functools import partial
from typing import Any, Optional

from fastapi import WebSocket, WebSocketDisconnect
from opentelemetry.trace import SpanKind

from streamdrnn.apps.serving import logs, traces
from streamdrnn.apps.serving.limits import RefusalError
from streamdrnn.apps.serving.service import Service
from streamdrnn.apps.serving.session import Session
from streamdrnn.apps.serving.shortcut import shortcut_of
from streamdrnn.apps.serving.tokens import Tokens
from streamdrnn.client import protocol
from streamdrnn.client.protocol import Code

logger = logging.getLogger(__name__)

_MOST_TEXT = 4096
_MOST_REASON = 120  # bytes, of the 123 that a close frame has room for
_FAREWELL_SECONDS = 1.0
"""How long a client that does not read may hold up its own refusal."""


async def converse(websocket: WebSocket, service: Service, tokens: Tokens) -> None:
    """Serve a connection until its client leaves or it is refused."""
    with traces.TRACER.start_as_current_span("connection", kind=SpanKind.SERVER):
        await _converse(websocket, service, tokens)


async def _converse(websocket: WebSocket, service: Service, tokens: Tokens) -> None:
    await websocket.accept()
    client = None if websocket.client is None else websocket.client.host
    began = time.monotonic()
    try:
        session = await _open(websocket, service, tokens)
    except RefusalError as refusal:
        told = {"client": client, "code": int(refusal.code), "reason": str(refusal)}
        if service.refusal_lines.spend(1, time.monotonic()) is None:
            logs.event(logger, "refused", **told)
        traces.note("refused", **told)
        await _refuse(websocket, service, refusal)
        return
    except WebSocketDisconnect:
        return
    named = {"client": client, "stream": logs.name_of(session.stream), "model": session.model.name}
    _note("stream begins", **named, seq=session.processed)
    reader = asyncio.create_task(_read(websocket, service, session))
    writer = asyncio.create_task(_write(websocket, session))
    shortcut = shortcut_of(websocket.scope)
    if shortcut is not None:
        shortcut.hear, session.outbox.say = partial(_hear, session), shortcut.say
    try:
        ends: list[asyncio.Future[Any]] = [reader, writer, session.ended]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
    finally:
        if shortcut is not None:
            shortcut.hear = session.outbox.say = None
        for task in (reader, writer):
            task.cancel()
        outcomes = await asyncio.gather(reader, writer, return_exceptions=True)
        # Saved before the client hears of the end, so that it can continue at once.
        await asyncio.shield(service.leave(session))
    why: Optional[RefusalError] = session.ended.result() if session.ended.done() else None
    why = next((outcome for outcome in outcomes if isinstance(outcome, RefusalError)), why)
    code, reason = _end_of(session, why, None if shortcut is None else shortcut.failed)
    seconds = round(time.monotonic() - began, 3)
    _note("stream ends", **named, seq=session.processed, seconds=seconds, reason=reason, code=code)
    if why is not None:
        await _refuse(websocket, service, why)
        return
    for outcome in outcomes:
        if isinstance(outcome, Exception) and not isinstance(outcome, WebSocketDisconnect | RuntimeError):
            raise outcome


def _end_of(
    session: Session, why: Optional[RefusalError], failed: Optional[tuple[int, str]]
) -> tuple[Optional[int], str]:
    """The code and the reason of a stream's end."""
    if why is not None:
        return int(why.code), str(why)
    if session.closed:
        return 1000, "closed by its client"
    return failed or (None, "the connection ended")


def _note(what: str, **fields: Any) -> None:
    """Write to the log and to the connection's span what happens to it."""
    logs.event(logger, what, **fields)
    traces.note(what, **fields)


async def _open(websocket: WebSocket, service: Service, tokens: Tokens) -> Session:
    try:
        async with asyncio.timeout(service.limits.open_seconds):
            message = await websocket.receive()
    except TimeoutError:
        raise RefusalError(Code.IDLE, f"expected open or restore within {service.limits.open_seconds:g} s") from None
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    if message.get("text") is None:
        raise RefusalError(Code.BAD_MESSAGE, "expected open or restore first, got a binary message")
    fields = _fields(message["text"])
    if not tokens.allow(fields.get("token")):
        raise RefusalError(Code.UNAUTHORISED, "token: expected one of this server's")
    if fields.get("version") != protocol.VERSION:
        raise RefusalError(
            Code.BAD_MESSAGE, f"version: expected {protocol.VERSION}, got {str(fields.get('version'))[:64]}"
        )
    if fields["type"] == "open":
        session = await service.open(_text(fields, "model"), _text(fields, "format"))
        session.greet(0)
    elif fields["type"] == "restore":
        ack = fields.get("ack")
        if type(ack) is not int or not 0 <= ack <= protocol.MAX_SEQUENCE:
            raise RefusalError(Code.BAD_MESSAGE, "ack: expected the number of the last result that the client has")
        session = await service.restore(_text(fields, "stream"))
        try:
            session.greet(ack)
        except RefusalError:
            await service.leave(session)
            raise
    else:
        raise RefusalError(Code.BAD_MESSAGE, f"type: expected open or restore first, got {fields['type'][:64]!r}")
    return session


def _hear(session: Session, data: bytes) -> bool:
    """Take a binary message, if the stream has not ended; whether it goes on."""
    session.heard = time.monotonic()
    try:
        session.hear_input(data)
    except RefusalError as refusal:
        session.end(refusal)
    return not session.ended.done()


async def _read(websocket: WebSocket, service: Service, session: Session) -> None:
    while True:
        message = await websocket.receive()
        if message["type"] == "websocket.disconnect":
            return
        data: Optional[bytes] = message.get("bytes")
        if data is not None:
            if not _hear(session, data):
                return
            continue
        session.heard = time.monotonic()
        fields = _fields(message["text"])
        if fields["type"] == "reset":
            await session.hear_reset(fields.get("seq"), fields.get("ack"))
        elif fields["type"] == "snapshot":
            session.hear_snapshot()
            await service.save(session)
        elif fields["type"] == "close":
            await service.close(session)
            session.outbox.put(json.dumps({"type": "closed", "seq": session.processed}))
            session.outbox.put(None)
            await session.gone.wait()
        else:
            expected = "reset, snapshot or close"
            raise RefusalError(Code.BAD_MESSAGE, f"type: expected {expected}, got {fields['type'][:64]!r}")


async def _write(websocket: WebSocket, session: Session) -> None:
    while True:
        message = await session.outbox.take()
        if message is None:
            await websocket.close()
            return
        if isinstance(message, bytes):
            await websocket.send_bytes(message)
        else:
            await websocket.send_text(message)


async def _refuse(websocket: WebSocket, service: Service, refusal: RefusalError) -> None:
    """Say why, and close."""
    service.metrics.refused(refusal.code)
    text = json.dumps({"type": "error", "code": int(refusal.code), "message": str(refusal)})
    try:
        async with asyncio.timeout(_FAREWELL_SECONDS):
            await websocket.send_text(text)
            reason = str(refusal).encode(errors="replace")[:_MOST_REASON].decode(errors="ignore")
            await websocket.close(int(refusal.code), reason)
    except (TimeoutError, RuntimeError, WebSocketDisconnect):
        pass  # the client has left, or does not read: there is nobody to tell


def _fields(text: str) -> dict[str, Any]:
    """The fields of a text message, ``type`` among them."""
    if len(text) > _MOST_TEXT:
        raise RefusalError(Code.FRAME_TOO_LARGE, f"expected a text message of {_MOST_TEXT} characters or fewer")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError):
        raise RefusalError(Code.BAD_MESSAGE, "expected a JSON object") from None
    if not isinstance(fields, dict) or not isinstance(fields.get("type"), str):
        raise RefusalError(Code.BAD_MESSAGE, "expected a JSON object with a type")
    return fields


def _text(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        raise RefusalError(Code.BAD_MESSAGE, f"{name}: expected a string")
    return value
