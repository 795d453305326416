"""`streamdrnn serve`: models for other programs, over WebSockets."""

import os
import signal
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, Optional

import tyro

from streamdrnn.apps.port import check_port
from streamdrnn.apps.weights import Held
from streamdrnn.errors import InputError, installing


@dataclass
class Serve:
    """Answer live streams over WebSockets, each as if it had the model for itself.

    The protocol, and clients for it, are in docs/serving.md. On SIGTERM the streams are saved, and their clients
    continue them on the next server that has the same store.

    Example: streamdrnn serve speaker --port 8765
    """

    models: Annotated[
        tyro.conf.Positional[list[str]],
        tyro.conf.arg(
            metavar="MODEL|speaker...",
            help="Model files, or the shipped model; clients ask for them by their names without the ending.",
        ),
    ]
    host: Annotated[str, tyro.conf.arg(help="The address to listen on; other machines reach only another one.")] = (
        "127.0.0.1"
    )
    port: Annotated[int, tyro.conf.arg(help="The port; 0 is a free one.")] = 8765
    max_wait_ms: Annotated[float, tyro.conf.arg(help="How long a message may wait for others to go with it.")] = 5.0
    weights: Annotated[
        Held,
        tyro.conf.arg(
            help="How the networks hold their weights: int8 takes half of the model's time, and rounds the results."
        ),
    ] = "float32"
    token_file: Annotated[
        Optional[Path],
        tyro.conf.arg(metavar="FILE", help="Tokens, one a line; who has none of them is refused."),
    ] = None
    allow_origin: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="ORIGIN...", help="Web pages that may connect, as in https://example.org."),
    ] = ()
    store: Annotated[
        Optional[str],
        tyro.conf.arg(
            metavar="FILE|URL",
            help="Where streams are saved, if not in the user's data folder; or redis://HOST:PORT/DB.",
        ),
    ] = None
    snapshot_seconds: Annotated[float, tyro.conf.arg(help="How often streams are saved.")] = 5.0
    keep_hours: Annotated[float, tyro.conf.arg(help="How long a stream is kept that nobody continues.")] = 24.0
    store_mb: Annotated[
        int, tyro.conf.arg(help="Megabytes that the store's file may have; from nine tenths on no stream is opened.")
    ] = 1000
    max_streams: Annotated[int, tyro.conf.arg(help="Streams of each model at a time.")] = 64
    max_frame_steps: Annotated[int, tyro.conf.arg(help="Steps of the network in one message.")] = 100
    max_rate: Annotated[float, tyro.conf.arg(help="Steps per second of a stream, on average over a minute.")] = 1000.0
    idle_seconds: Annotated[float, tyro.conf.arg(help="How long a stream may say nothing.")] = 60.0
    log_format: Annotated[Literal["text", "json"], tyro.conf.arg(help="How the log is written to standard error.")] = (
        "text"
    )
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"],
        tyro.conf.arg(help="The least that is written; streams that begin and end are info."),
    ] = "info"
    traces: Annotated[
        bool, tyro.conf.arg(help="Send traces to OTEL_EXPORTER_OTLP_ENDPOINT, by default http://localhost:4318.")
    ] = False
    ssl_certfile: Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="Serve TLS with this certificate.")] = (
        None
    )
    ssl_keyfile: Annotated[Optional[Path], tyro.conf.arg(metavar="FILE", help="The certificate's private key.")] = None

    def run(self) -> None:
        check_installed()
        if hasattr(signal, "SIGHUP"):
            signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to read again
        from streamdrnn.apps.model_file import model_file
        from streamdrnn.apps.serving.limits import Limits
        from streamdrnn.apps.serving.logs import configure
        from streamdrnn.apps.serving.origins import checked_origins
        from streamdrnn.apps.serving.server import Server, allow_files, settle_in
        from streamdrnn.apps.serving.service import Service
        from streamdrnn.apps.serving.store import open_store
        from streamdrnn.apps.serving.tokens import Tokens
        from streamdrnn.apps.serving.traces import export

        for name in ("snapshot_seconds", "keep_hours", "store_mb"):
            if not getattr(self, name) > 0:
                raise InputError(f"{name}: expected above 0, got {getattr(self, name)}")
        check_port(self.port)
        if self.ssl_keyfile is not None and self.ssl_certfile is None:
            raise InputError("ssl_keyfile: expected with an ssl_certfile")
        for path in (self.ssl_certfile, self.ssl_keyfile):
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"{path}: no such file")
        limits = Limits(
            streams=self.max_streams,
            frame_steps=self.max_frame_steps,
            rate=self.max_rate,
            idle_seconds=self.idle_seconds,
        )
        allow_files(limits, len(self.models))  # before there is memory for as many streams
        tokens = Tokens.read(self.token_file)
        service = Service(
            [model_file(model) for model in self.models],
            open_store(self.store, self.keep_hours * 3600, self.store_mb * 10**6),
            limits,
            self.max_wait_ms / 1000,
            self.snapshot_seconds,
            self.weights,
        )
        configure(self.log_format, self.log_level)
        settle_in()
        certificate = (self.ssl_certfile, self.ssl_keyfile) if self.ssl_certfile else None
        at_end = export() if self.traces else None
        server = Server(service, tokens, checked_origins(self.allow_origin), certificate, at_end)
        # Bound here, so that a port that is taken is an error like any other, and a free one is known.
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        try:
            listener = socket.create_server((self.host, self.port), family=family, backlog=1024)
        except TypeError as error:  # it is too long
            raise InputError(f"host: {error}") from None
        scheme, host = "wss" if certificate else "ws", f"[{self.host}]" if ":" in self.host else self.host
        url = f"{scheme}://{host}:{listener.getsockname()[1]}"
        print(f"serving {', '.join(sorted(service.models))} at {url}", flush=True)
        server.run([listener])
        if server.has_failed:
            os._exit(1)  # sys.exit would wait for all threads, as for one that the store never answers


def check_installed() -> None:
    """Raise ``ValueError`` if what serving needs is not installed."""
    try:
        import fastapi  # noqa: F401
        import opentelemetry.trace  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401
        import websockets  # noqa: F401
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; serving needs it: {installing('serve')}") from None
