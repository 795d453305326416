"""Traces for OpenTelemetry: a span for each connection, and below it what was asked of the store.

The server uses OpenTelemetry's API alone, which does nothing until a provider of spans is set: :func:`export` sets one.
No span has sound, a token or an id; a stream is named as in the log. Passes are in the metrics only: there are hundreds
a second.
"""

import threading
from collections.abc import Callable

from opentelemetry import trace

import streamdrnn
from streamdrnn.errors import InputError, installing

TRACER = trace.get_tracer("streamdrnn.serving")
SEND_SECONDS = 3.0
"""How long a server that leaves takes at most to send what is left."""


def note(what: str, **fields: str | int | float | None) -> None:
    """Add to a connection's span what happens to it."""
    span = trace.get_current_span()
    span.set_attributes({f"streamdrnn.{name}": value for name, value in fields.items() if value is not None})
    span.add_event(what)


def export() -> Callable[[], None]:
    """From now on, send spans by OTLP over HTTP to where OpenTelemetry's environment variables say.

    Returns:
        what sends those that are left, as far as :data:`SEND_SECONDS` allow, and ends it.

    Raises:
        ValueError: what it needs is not installed; an environment variable is wrong; spans go elsewhere already.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import OTELResourceDetector, Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ModuleNotFoundError as error:
        raise InputError(f"{error}; traces need it: {installing('traces')}") from None
    if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):  # a process has one at most
        raise InputError("traces: spans go elsewhere already; expected no OTEL_PYTHON_TRACER_PROVIDER, or no --traces")
    ours = {"service.name": "streamdrnn", "service.version": streamdrnn.__version__}
    resource = Resource.create({**ours, **OTELResourceDetector().detect().attributes})
    try:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    except ValueError as error:
        raise InputError(f"traces: OpenTelemetry refuses its environment variables (OTEL_...): {error}") from None
    trace.set_tracer_provider(provider)

    def finish() -> None:
        # The exporter waits for longer than a server may take; a process does not wait for a daemon.
        sending = threading.Thread(target=provider.shutdown, daemon=True)
        sending.start()
        sending.join(SEND_SECONDS)

    return finish
