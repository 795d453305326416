"""Handshakes that no client library would make, and those that wait for their answer."""

import numpy as np
import pytest

from tests.serving.raw import (
    CLOSE,
    HANDSHAKE,
    HANDSHAKE_WITH_A_BODY,
    PING,
    PONG,
    connected,
    frame,
    reset,
    shake_hands,
    until_cut,
)
from tests.serving.servers import Running
from tests.serving.strangers.watching import answer_handshakes_when, wait_until_nobody_is_there, websockets_of
from tests.waiting import wait_for

HTTP_GARBAGE = {
    "random bytes": np.random.default_rng(0).bytes(1000),
    "zeros": bytes(1000),
    "TLS": bytes.fromhex("16030100f8010000f40303") + bytes(200),
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(20),
    "another version": b"GET / HTTP/9.9\r\nHost: x\r\n\r\n",
    "no host": b"GET /healthz HTTP/1.1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    "a length below 0": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "chunks that are none": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "chunks that are none, of HEAD": b"HEAD / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n",
    "a path upwards": b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n",
    "a path of no characters": b"GET /%00%ff%2e%2e HTTP/1.1\r\nHost: x\r\n\r\n",
    "a WebSocket without key": HANDSHAKE.replace(b"Sec-WebSocket-Key", b"X-Key"),
    "a WebSocket of version 7": HANDSHAKE.replace(b"Version: 13", b"Version: 7"),
    "a WebSocket elsewhere": HANDSHAKE.replace(b"/v1/stream", b"/v1/models"),
    "another protocol": HANDSHAKE.replace(b"Upgrade: websocket", b"Upgrade: h2c"),
    "a WebSocket that is posted": HANDSHAKE.replace(b"GET", b"POST"),
}


@pytest.mark.parametrize("garbage", HTTP_GARBAGE.values(), ids=HTTP_GARBAGE)
def test_what_is_no_handshake_is_refused(impatient: Running, garbage: bytes) -> None:
    with connected(impatient.port, garbage) as peer:
        answer = until_cut(peer)
    assert not answer or answer.startswith(b"HTTP/1.1 4"), answer


ONLY_TO_H11 = {
    "with a body": HANDSHAKE_WITH_A_BODY,
    "in chunks": HANDSHAKE[:-2] + b"Transfer-Encoding: chunked\r\n\r\n",
    "with a long header": HANDSHAKE[:-2] + b"X: " + b"a" * 9000 + b"\r\n\r\n",
    "with a long target": HANDSHAKE.replace(b"/v1/stream", b"/v1/stream?" + b"a" * 9000),
    "with many headers": HANDSHAKE[:-2] + b"".join(b"X-%d: a\r\n" % i for i in range(130)) + b"\r\n",
    "with a control character": HANDSHAKE[:-2] + b"X: a\x01b\r\n\r\n",
}


@pytest.mark.parametrize("handshake", ONLY_TO_H11.values(), ids=ONLY_TO_H11)
def test_a_handshake_that_websockets_refuses_is_answered(server: Running, handshake: bytes) -> None:
    """h11 takes it."""
    with connected(server.port, handshake) as peer:
        assert until_cut(peer).startswith(b"HTTP/1.1 4")


def test_a_handshake_that_is_not_answered_keeps_no_place(impatient: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    answer_handshakes_when(monkeypatch, lambda _: False)
    with connected(impatient.port) as peer:
        peer.sendall(HANDSHAKE)
        assert not until_cut(peer)


@pytest.mark.parametrize(("early", "answer"), [(PING, PONG), (CLOSE, CLOSE), (3, CLOSE)])
def test_frames_before_the_answer_to_the_handshake_are_heard_after_it(
    server: Running, monkeypatch: pytest.MonkeyPatch, early: int, answer: int
) -> None:
    answer_handshakes_when(monkeypatch, lambda one: bool(one._unparsed))
    with connected(server.port) as peer:
        peer.sendall(HANDSHAKE)
        wait_for(lambda: bool(websockets_of(server)))
        peer.sendall(frame(early, b""))
        shake_hands(peer)
        assert peer.recv(1) == bytes([0x80 | answer])


def test_who_leaves_before_his_handshake_is_answered_leaves_no_traceback(
    server: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer_handshakes_when(monkeypatch, lambda _: False)
    for handshake in (HANDSHAKE, HANDSHAKE[:-2] + b"Origin: https://example.org\r\n\r\n"):
        with connected(server.port) as peer:
            peer.sendall(handshake)
            wait_for(lambda: bool(websockets_of(server)))
            reset(peer)
        wait_until_nobody_is_there(server)
