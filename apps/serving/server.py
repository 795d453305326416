"""The service on the network: FastAPI for what is asked over HTTP, uvicorn for the sockets."""

import asyncio
import gc
import logging
import os
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Optional

import torch
import uvicorn
from fastapi import FastAPI, Header, HTTPException, Request, Response, WebSocket
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

import streamdrnn
from streamdrnn.apps.serving.connection import converse
from streamdrnn.apps.serving.door import Door
from streamdrnn.apps.serving.limits import Cut, Limits
from streamdrnn.apps.serving.service import Service
from streamdrnn.apps.serving.sockets import Admission, BoundedHTTP
from streamdrnn.apps.serving.tokens import Tokens
from streamdrnn.apps.serving.websocket import BoundedWebSocket
from streamdrnn.client.protocol import PATH, Code
from streamdrnn.errors import InputError

logger = logging.getLogger(__name__)

SPARE_WEBSOCKETS = 50
"""WebSockets beyond the streams, for those that have not said yet what they want, and those that are refused."""
_SMALLEST_MESSAGE = 64 * 1024
CLOSE_SECONDS = 8
"""How long the connections of a server that stops may take to close, after its streams were saved."""
_OTHER_FILES = 64
"""Open files that are no connections: the store's, on four threads, the listening sockets, the process's own."""
_PASS_THREADS = 2
"""They halve the time of a pass of many streams; one of few is computed by one thread, whatever there are."""
_SWITCH_SECONDS = 0.0001
_METRICS_SECONDS = 1.0
_GARBAGE = 20_000
"""Objects between two looks for garbage in cycles, instead of 700: each look holds up a pass."""


def settle_in() -> None:
    """Make this process one that serves and does nothing else; call it when the models are there."""
    torch.set_num_threads(min(_PASS_THREADS, os.cpu_count() or 1))
    # The model's thread asks for the interpreter at every operation; at the default of 5 ms it would wait that long
    # each time while messages come in.
    sys.setswitchinterval(_SWITCH_SECONDS)
    gc.freeze()  # nothing that is here now is ever garbage: looking through it would hold up a pass
    gc.set_threshold(_GARBAGE, 10, 10)


def _places(limits: Limits, models: int) -> int:
    """How many WebSockets there may be."""
    return limits.streams * models + SPARE_WEBSOCKETS


def allow_files(limits: Limits, models: int) -> None:
    """Raise this process's limit of open files to what a server of so many models needs.

    Raises:
        ValueError: the system does not allow as many.
    """
    most = 3 * _places(limits, models) + _OTHER_FILES  # WebSockets, other connections, handshakes of TLS
    try:
        import resource
    except ModuleNotFoundError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < most:  # below 0: without a limit
        raise InputError(
            f"max_streams: connections and store may need {most} open files, and the system allows {hard}; "
            "expected fewer streams or a higher limit (ulimit -Hn)"
        )
    if 0 <= soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


def _read_certificate(files: tuple[Path, Optional[Path]]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(*files)
    except ssl.SSLError as error:
        raise InputError(f"ssl_certfile, ssl_keyfile: expected a certificate and its key in PEM ({error})") from None
    return context


def build_app(service: Service, tokens: Tokens, origins: Sequence[str] = ()) -> FastAPI:
    """The application.

    Args:
        tokens: who may use streams and read metrics.
        origins: the web pages that may connect, as in ``https://example.org``. Others may not, as any page that
            somebody looks at could otherwise talk to a server on his own machine.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await service.start()
        yield
        await service.stop()

    app = FastAPI(
        docs_url=None,  # its page loads scripts of others
        redoc_url=None,
        title="streamdrnn",
        version=streamdrnn.__version__,
        description=f"Streams are a WebSocket each, at {PATH}; see docs/serving.md.",
        lifespan=lifespan,
    )

    @app.head("/healthz", include_in_schema=False)
    @app.get("/healthz")
    async def healthz() -> dict[str, str]:
        """The process answers."""
        return {"status": "ok"}

    @app.head("/readyz", include_in_schema=False)
    @app.get("/readyz", responses={503: {"description": "No stream can be opened, and why."}})
    async def readyz() -> dict[str, str]:
        """Streams can be opened."""
        why_not = await service.why_not()
        if why_not:
            raise HTTPException(503, why_not)
        return {"status": "ready"}

    @app.get("/v1/models", responses={401: {"description": "No token of this server."}})
    async def models(authorization: Annotated[Optional[str], Header()] = None) -> list[dict[str, Any]]:
        """The models that streams can be opened on."""
        _check_token(authorization)
        return [model.describe() for model in service.models.values()]

    page, made = b"", float("-inf")

    @app.get("/metrics", response_class=Response, responses={401: {"description": "No token of this server."}})
    async def metrics(authorization: Annotated[Optional[str], Header()] = None) -> Response:
        """Counts for Prometheus, up to a second old."""
        nonlocal page, made
        _check_token(authorization)
        now = time.monotonic()
        if now > made + _METRICS_SECONDS:
            page, made = generate_latest(service.metrics.registry), now
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    @app.websocket(PATH)
    async def stream(websocket: WebSocket) -> None:
        origin = websocket.headers.get("origin")
        if origin is not None and origin not in origins:
            service.metrics.refused(Cut.FORBIDDEN_ORIGIN)
            await websocket.close()  # before it is accepted: HTTP 403
            return
        await converse(websocket, service, tokens)

    @app.middleware("http")
    async def close_afterwards(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        """One request for each connection, which has waited for its turn: else some could be thousands."""
        response = await answer(request)
        response.headers["Connection"] = "close"
        return response

    def _check_token(authorization: Optional[str]) -> None:
        # Starlette reads headers as Latin-1, whatever they are.
        sent = (authorization or "").encode("latin-1").decode(errors="replace")
        scheme, _, token = sent.partition(" ")
        if not tokens.allow(token if scheme.lower() == "bearer" else None):
            service.metrics.refused(Code.UNAUTHORISED)
            raise HTTPException(401, "expected one of this server's tokens", {"WWW-Authenticate": "Bearer"})

    return app


class Server(uvicorn.Server):
    """A server that saves its streams before it leaves, on SIGTERM or SIGINT; :meth:`run` takes the listening sockets.

    On SIGHUP it reads tokens and certificates again; what is connected goes on. When an error ends work of its own it
    leaves, too.

    Args:
        certificate: the files of a certificate and of its key (None if that is in the same file), to serve TLS.
        at_end: called on a thread when all connections are closed.

    Attributes:
        has_failed: whether an error has ended its work; the log has its traceback.
    """

    def __init__(
        self,
        service: Service,
        tokens: Tokens,
        origins: Sequence[str] = (),
        certificate: Optional[tuple[Path, Optional[Path]]] = None,
        at_end: Optional[Callable[[], None]] = None,
    ) -> None:
        models = service.models.values()
        places = _places(service.limits, len(models))
        config = uvicorn.Config(
            build_app(service, tokens, origins),
            http=partial(BoundedHTTP, admission=Admission(places), refused=service.metrics.refused),  # type: ignore[arg-type]
            ws=BoundedWebSocket,
            ws_max_size=max(_SMALLEST_MESSAGE, *(2 * model.max_message for model in models)),
            ws_per_message_deflate=False,  # numbers hardly get smaller
            limit_concurrency=3 * places,  # see BoundedHTTP; uvicorn's own refusal is never reached
            timeout_graceful_shutdown=CLOSE_SECONDS,
            log_config=None,  # the program's own
            log_level="error",  # a peer can cause warnings without end
        )
        super().__init__(config)
        self._service, self._tokens, self._certificate, self._at_end = service, tokens, certificate, at_end
        self._tls = None if certificate is None else _read_certificate(certificate)
        self._door = Door(self._protocol, self._tls, places, service.metrics.refused)
        self.has_failed = False

    async def serve(self, sockets: Optional[list[socket.socket]] = None) -> None:
        if threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGHUP"):
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        await super().serve(sockets)

    async def on_tick(self, counter: int) -> bool:
        """Whether it is time to leave; asked ten times a second."""
        self._note_failure()
        return await super().on_tick(counter) or self.has_failed

    def _note_failure(self) -> None:
        failure = self._service.failure or self._door.failure
        if failure is not None and not self.has_failed:
            self.has_failed = True
            logger.critical("an error ended the server's work", exc_info=failure)

    def reload(self) -> None:
        """Read tokens and certificates again. What cannot be read is logged, and stays as it was."""
        try:
            self._tokens.reload()
            if self._certificate is not None and self._tls is not None:
                _read_certificate(self._certificate)  # raises if the key does not fit
                self._tls.load_cert_chain(*self._certificate)
        except (OSError, InputError) as error:  # ssl's errors are OSErrors
            logger.error("not everything could be read again: %s", error)
        else:
            logger.warning("tokens and certificates were read again")

    async def startup(self, sockets: Optional[list[socket.socket]] = None) -> None:
        await super().startup([])  # all but to listen
        for listener in sockets or []:
            self._door.open(listener)

    def _protocol(self) -> asyncio.Protocol:
        make: Callable[..., asyncio.Protocol] = self.config.http_protocol_class
        return make(config=self.config, server_state=self.server_state, app_state=self.lifespan.state)

    async def shutdown(self, sockets: Optional[list[socket.socket]] = None) -> None:
        await self._service.drain()
        self._note_failure()  # of that, too
        await self._door.close()
        await super().shutdown(sockets)
        if self._at_end is not None:
            await asyncio.to_thread(self._at_end)
