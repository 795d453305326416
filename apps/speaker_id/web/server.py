"""The page's server."""

import contextlib
import socket
from importlib.resources import files
from pathlib import Path

import uvicorn
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.routing import Mount, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket

from streamdrnn.apps.speaker_id.model import SpeakerModel
from streamdrnn.apps.speaker_id.profiles import ProfileStore
from streamdrnn.apps.speaker_id.web.listener import Listener

HOST = "127.0.0.1"
MAX_PAGES = 4
MAX_MESSAGE_BYTES = 1 << 19
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
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
        if page.headers.get("origin") != f"http://{page.headers.get('host')}":
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

    folder = Path(str(files("streamdrnn.apps.speaker_id.web").joinpath("page")))
    return Starlette(
        routes=[WebSocketRoute("/listen", answer), Mount("/", StaticFiles(directory=folder, html=True))],
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


def serve(model: SpeakerModel, store: ProfileStore, threshold: float, port: int) -> None:
    """Serve until Ctrl-C.

    Raises:
        OSError: the port cannot be had.
    """
    # Bound here, so that a taken port is an error like any other.
    with socket.create_server((HOST, port)) as listening:
        print(f"open http://localhost:{listening.getsockname()[1]} in a browser; Ctrl-C ends it", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # the usual end
            make_server(make_app(model, store, threshold)).run(sockets=[listening])


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
