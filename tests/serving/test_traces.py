"""The spans of a server: which there are, what is below what, and what is in none of them."""

import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from streamdrnn.apps.serving import keeper, traces
from streamdrnn.client.protocol import Code
from streamdrnn.errors import InputError
from tests.serving.servers import ServerProcess, Wire, running, serve_one_and_refuse_one, tagger_file
from tests.serving.test_deployment import MOST_TO_STOP
from tests.waiting import wait_for


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """All that have ended; a process has one provider at most, which no test shall set."""
    exporter, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    tracer = provider.get_tracer("test")
    monkeypatch.setattr(keeper, "TRACER", tracer)
    monkeypatch.setattr(traces, "TRACER", tracer)
    return exporter


def of_name(spans: InMemorySpanExporter, name: str) -> list[ReadableSpan]:
    return [span for span in spans.get_finished_spans() if span.name == name]


def test_a_connection_is_a_span_above_what_was_asked_of_the_store_for_it(
    tmp_path: Path, spans: InMemorySpanExporter
) -> None:
    token = "a token that nobody else knows"
    with running([tagger_file(tmp_path)], tmp_path / "s", tokens=[token]) as server:
        stream = serve_one_and_refuse_one(server.url, token)
        wait_for(lambda: len(of_name(spans, "connection")) == 2)
    served, refused = sorted(of_name(spans, "connection"), key=lambda span: span.start_time or 0)
    told = dict(served.attributes or {})
    assert (told["streamdrnn.model"], told["streamdrnn.seq"], told["streamdrnn.code"]) == ("tagger", 1, 1000)
    assert told["streamdrnn.reason"] == "closed by its client"
    assert [event.name for event in served.events] == ["stream begins", "stream ends"]
    assert (refused.attributes or {})["streamdrnn.code"] == Code.UNAUTHORISED
    assert all(span.status.is_unset for span in (served, refused)), "a client's mistake is no error of the server"
    for name in ("store add", "store remove"):
        (asked,) = of_name(spans, name)
        assert asked.parent is not None
        assert served.context is not None
        assert asked.parent.span_id == served.context.span_id
    # Streams of several connections may be saved together, so that no connection's span is above it.
    saves = of_name(spans, "save")
    assert saves
    assert {span.parent for span in saves} == {None}
    assert of_name(spans, "store save")[0].parent in [span.context for span in saves]
    everything = "".join(span.to_json() for span in spans.get_finished_spans())
    for secret in (token, "wrong", stream):
        assert secret not in everything


class Collector:
    """Takes what is sent by OTLP over HTTP, on loopback."""

    def __init__(self) -> None:
        self.requests: list[tuple[str, ExportTraceServiceRequest]] = []
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                request = ExportTraceServiceRequest()
                request.ParseFromString(self.rfile.read(int(self.headers["Content-Length"])))
                collector.requests.append((self.path, request))
                self.send_response(200)
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    taking = Collector()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", taking.url)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    thread = threading.Thread(target=taking.server.serve_forever)
    thread.start()
    yield taking
    taking.server.shutdown()
    thread.join()
    taking.server.server_close()


def test_the_command_sends_what_is_left_before_it_ends(
    tmp_path: Path, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "600000")  # nothing is sent before the end
    process = ServerProcess(tagger_file(tmp_path), "--port", 0, "--store", tmp_path / "s", "--traces")
    with Wire(process.url()) as wire:
        wire.open()
    process.terminate()
    ((path, request),) = collector.requests
    assert path == "/v1/traces"
    (resource,) = request.resource_spans
    named = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert named["service.name"] == "streamdrnn"
    assert {"connection", "store add", "save"} <= {span.name for part in resource.scope_spans for span in part.spans}


def test_a_server_leaves_in_time_when_nobody_takes_its_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # it accepts, and never answers
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://127.0.0.1:{mute.getsockname()[1]}")
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "300")  # longer than a server may take
        process = ServerProcess(tagger_file(tmp_path), "--port", 0, "--store", tmp_path / "s", "--traces")
        with Wire(process.url()) as wire:
            wire.open()
        began = time.monotonic()
        process.terminate()
        assert time.monotonic() < began + MOST_TO_STOP


def test_a_wrong_variable_is_the_users_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "0")
    with pytest.raises(InputError, match=r"^traces: OpenTelemetry refuses .*OTEL_.*: max_queue_size must be"):
        traces.export()


def test_spans_that_go_elsewhere_already_are_not_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: elsewhere)
    with pytest.raises(InputError, match=r"^traces: spans go elsewhere already"):
        traces.export()


def test_what_sends_spans_may_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(InputError, match=r"traces need it: pip install '\.\[traces\]'"):
        traces.export()


def test_without_the_option_no_spans_are_kept() -> None:
    assert not isinstance(trace.get_tracer_provider(), TracerProvider)
