"""What is counted and logged of connections that are cut off."""

import logging
import time
from typing import Any

import pytest

from streamdrnn.apps.serving.limits import Budget
from tests.serving.raw import (
    BINARY,
    HANDSHAKE,
    HANDSHAKE_WITH_A_BODY,
    OPEN,
    PING,
    PONG,
    TEXT,
    connected,
    frame,
    until_cut,
)
from tests.serving.servers import Running, Wire, refused
from tests.serving.strangers.watching import wait_until_nobody_is_there
from tests.waiting import wait_for


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        ("too_many_frames", [HANDSHAKE, frame(PING, b"") * 60]),
        ("too_many_frames", [HANDSHAKE, frame(TEXT, OPEN), frame(PONG, b"") * 60]),
        ("too_many_frames", [HANDSHAKE, frame(TEXT, b"{}"), frame(TEXT, b"{}") * 60]),
        ("message_too_large", [HANDSHAKE, frame(BINARY, b"", length=2**30)]),
        ("bad_frame", [HANDSHAKE, frame(3, b"")]),
        ("bad_frame", [HANDSHAKE, frame(TEXT, b"\xff")]),
        ("bad_frame", [HANDSHAKE, frame(TEXT, OPEN), frame(TEXT, b"\xff", first=0) + frame(0, b"")]),
        ("bad_request", [b"GET /healthz\r\n\r\n"]),
        ("bad_request", [HANDSHAKE_WITH_A_BODY]),
        ("bad_request", [HANDSHAKE.replace(b"GET", b"POST")]),
        ("too_slow", [b"GET /healthz HTTP/1.1\r\n"]),
    ],
)
def test_connections_that_are_cut_off_are_counted_and_those_without_a_stream_leave_no_line(
    impatient: Running, caplog: pytest.LogCaptureFixture, reason: str, sent: list[bytes]
) -> None:
    caplog.set_level(logging.INFO)
    before = impatient.count("streamdrnn_refusals_total", code=reason)
    with connected(impatient.port, *sent) as peer:
        until_cut(peer)
    wait_for(lambda: impatient.count("streamdrnn_refusals_total", code=reason) == before + 1)
    wait_until_nobody_is_there(impatient)
    if any(OPEN in part or b"{}" in part for part in sent):  # its last line may come after the connection has gone
        wait_for(lambda: bool({"stream ends", "refused"} & {record.message for record in caplog.records}))
    else:
        assert not caplog.records


def end_of_the_stream(caplog: pytest.LogCaptureFixture) -> dict[str, Any]:
    """The fields of its line in the log, which is written when the stream is let go already."""
    wait_for(lambda: any(record.message == "stream ends" for record in caplog.records))
    (fields,) = [vars(record)["fields"] for record in caplog.records if record.message == "stream ends"]
    return dict(fields)


def test_who_answers_no_ping_is_counted_and_named(
    strict_server: Running, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(strict_server._server.config, "ws_ping_interval", 0.05)
    monkeypatch.setattr(strict_server._server.config, "ws_ping_timeout", 0.05)
    before = strict_server.count("streamdrnn_refusals_total", code="no_pong")
    with connected(strict_server.port, HANDSHAKE, frame(TEXT, OPEN)) as peer:
        came = until_cut(peer)
    assert (1011).to_bytes(2, "big") + b"no pong came" in came
    wait_for(lambda: strict_server.count("streamdrnn_refusals_total", code="no_pong") == before + 1)
    fields = end_of_the_stream(caplog)
    assert (fields["code"], fields["reason"]) == (1011, "no pong came")


@pytest.mark.parametrize(
    ("code", "reason", "attack"),
    [
        (1008, "too many frames without a message", frame(PING, b"") * 60),
        (1009, "limit", frame(BINARY, b"", length=2**30)),
        (1007, "expected text in UTF-8", frame(TEXT, b"\xff")),
    ],
)
def test_the_end_of_a_stream_that_is_cut_off_is_logged_with_its_code(
    server: Running, caplog: pytest.LogCaptureFixture, code: int, reason: str, attack: bytes
) -> None:
    caplog.set_level(logging.INFO)
    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN), attack) as peer:
        until_cut(peer)
    fields = end_of_the_stream(caplog)
    assert fields["code"] == code
    assert reason in fields["reason"]


def test_lines_about_strangers_are_few(server: Running, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    server.service.refusal_lines = Budget(1e-6, 2.0, time.monotonic())
    before = server.count("streamdrnn_refusals_total", code="bad_message")
    for _ in range(5):
        with Wire(server.url) as wire:
            wire.say(type="hello", version=1)
            refused(wire, 4400, "expected open or restore first")
    assert server.count("streamdrnn_refusals_total", code="bad_message") == before + 5
    assert [record.message for record in caplog.records] == ["refused"] * 2
