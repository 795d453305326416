"""The page's server."""

import asyncio
import contextlib
import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamdrnn.apps.speaker_id.exchange import as_object, parse_recording
from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.web.files import SETUP, model_files, page_files
from streamdrnn.apps.speaker_id.web.listener import Listener
from streamdrnn.errors import InputError

HOST = "127.0.0.1"
MAX_PAGES = 4
MAX_MESSAGE_BYTES = 1 << 19
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; script-src 'self' 'wasm-unsafe-eval'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def make_app(model: SpeakerModel, store: ProfileStore, threshold: float) -> Starlette:
    """The page at ``/``, and at ``/listen`` the WebSocket that it talks to.

    Both are for pages from here: other sites' pages cannot have the microphone's results or the profiles, whatever
    name they give this machine (the Host and Origin headers are checked).
    """
    pages = 0

    async def answer(page: WebSocket) -> None:
        nonlocal pages
        if not _is_from_here(page):
            await page.close(1008)
            return
        await page.accept()
        if pages >= MAX_PAGES:
            await page.send_json({"event": "error", "message": f"{MAX_PAGES} pages are listening already"})
            await page.close(1013)
            return
        pages += 1
        try:
            await Listener(page, model, store, threshold).run()
        finally:
            pages -= 1

    return _app(page_files(), lambda: {"local": False}, WebSocketRoute("/listen", answer))


def make_local_app(model: SpeakerModel, file: Path, store: ProfileStore, threshold: float) -> Starlette:
    """The page at ``/``, which hears by itself: it is given the models and the profiles, and sends no sound.

    Whom it enrols it posts to ``/recordings``, as :func:`as_object` has it. All is for pages from here, as in
    :func:`make_app`.

    Args:
        model, store, threshold: as for :class:`Conversation`.
        file: the model's.
    """

    def setup() -> dict[str, Any]:
        recordings = [as_object(one) for one in store.recordings()]
        return {"local": True, "threshold": threshold, "offset": store.offset(model.id), "recordings": recordings}

    def add(content: bytes) -> None:
        name, made_with, recording = parse_recording(json.loads(content))
        if made_with != model.id or len(recording.embedding) != model.embedder.embedding_size:
            raise InputError(f"{name!r} was enrolled with another model")
        store.add(name, made_with, [recording])

    async def answer(request: Request) -> Response:
        if not _is_from_here(request):
            return Response(status_code=403)
        content = b""
        async for part in request.stream():
            content += part
            if len(content) > MAX_MESSAGE_BYTES:
                return Response(status_code=413)
        try:
            await asyncio.to_thread(add, content)
        except (OSError, ValueError, RecursionError) as error:  # what is no JSON or no text is a ValueError too
            return PlainTextResponse(str(error), 400)
        return Response(status_code=204)

    return _app(page_files() | model_files(file), setup, Route("/recordings", answer, methods=["POST"]))


def _is_from_here(asked: HTTPConnection) -> bool:
    return asked.headers.get("origin") == f"http://{asked.headers.get('host')}"


def _app(found: dict[str, Path], setup: Callable[[], dict[str, Any]], route: BaseRoute) -> Starlette:
    """Files by their addresses, the page's setup, and one route more."""

    async def tell_setup(request: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(setup))

    async def give(request: Request) -> Response:
        path = found.get(request.path_params["address"] or "index.html")
        return Response(status_code=404) if path is None else FileResponse(path)

    return Starlette(
        routes=[route, Route(f"/{SETUP}", tell_setup), Route("/{address:path}", give)],
        middleware=[
            Middleware(TrustedHostMiddleware, allowed_hosts=["localhost", HOST]),
            Middleware(_SafeHeaders),
        ],
    )


def make_server(app: Starlette) -> uvicorn.Server:
    """What serves it, with limits on what a page can send."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            log_level="warning",
            ws="websockets-sansio",
            ws_max_size=MAX_MESSAGE_BYTES,
            ws_per_message_deflate=False,  # sound hardly gets smaller, and what is small must not become large
            timeout_graceful_shutdown=2,
        )
    )


def serve(app: Starlette, port: int) -> None:
    """Serve an app until Ctrl-C.

    Raises:
        OSError: the port cannot be had.
    """
    # Bound here, so that a taken port is an error like any other.
    with socket.create_server((HOST, port)) as listening:
        print(f"open http://localhost:{listening.getsockname()[1]} in a browser; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            make_server(app).run(sockets=[listening])


class _SafeHeaders:
    """The page loads nothing from elsewhere, and is shown in no other page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        await self._app(scope, receive, with_headers)
