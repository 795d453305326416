"""Connections that no client library would make: each costs a bounded time and memory, and the others go on."""

import asyncio
import json
import logging
import socket
import struct
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State
from websockets.server import ServerProtocol

from streamdrnn.apps.serving import sockets, websocket
from streamdrnn.apps.serving.frames import message_of
from streamdrnn.apps.serving.limits import Budget, Cut, Limits
from streamdrnn.apps.serving.websocket import BoundedWebSocket
from streamdrnn.client import connect
from streamdrnn.client.protocol import Input, pack_input, unpack_result
from tests.serving.raw import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    HEALTH,
    LEAVE,
    OPEN,
    PING,
    PLACES_TO_LEAVE,
    PONG,
    TEXT,
    connected,
    frame,
    numbers,
    read,
    reset,
    shake_hands,
    until_cut,
)
from tests.serving.servers import Running, Wire, assert_same, inputs, offline, refused, running, tagger_file
from tests.strategies import examples
from tests.waiting import PATIENCE, wait_for

SOON = 0.6


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tagger_file(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running([model], tmp_path_factory.mktemp("store") / "s") as server:
        yield server


@pytest.fixture(scope="module")
def strict_server(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    limits = Limits(idle_seconds=SOON, open_seconds=SOON)
    with running([model], tmp_path_factory.mktemp("store") / "s", limits) as server:
        yield server


@pytest.fixture
def impatient(strict_server: Running, monkeypatch: pytest.MonkeyPatch) -> Running:
    """A server in which whatever has a limit in time has a short one."""
    monkeypatch.setattr(sockets, "HTTP_SECONDS", SOON)
    monkeypatch.setattr(websocket, "LEAVE_SECONDS", SOON)
    return strict_server


@pytest.fixture(autouse=True)
def nothing_is_left(server: Running, strict_server: Running, caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """After each test the servers are as before it: all places given back, ready, and no traceback in the log."""
    logger = logging.getLogger("uvicorn.error")
    logger.addHandler(caplog.handler)
    yield
    logger.removeHandler(caplog.handler)
    for one in (server, strict_server):
        wait_until_nobody_is_there(one)
        assert status(one) == 200
    records = caplog.get_records("call") + caplog.records
    assert not [record.getMessage() for record in records if record.exc_info]


def wait_until_nobody_is_there(server: Running) -> None:
    server.wait_until_let_go()
    wait_for(lambda: not server.connections)


def status(server: Running, page: str = "readyz") -> int:
    try:
        with urllib.request.urlopen(f"{server.http}/{page}", timeout=PATIENCE) as response:
            return int(response.status)
    except urllib.error.HTTPError as error:
        with error:
            return error.code


def is_ready(server: Running) -> bool:
    try:
        return status(server) == 200
    except (ConnectionError, urllib.error.URLError):
        return False


@contextmanager
def others_go_on(server: Running, model: Path) -> Iterator[None]:
    """A stream that is open before, and whose results after are those that they would be without what happens."""
    x = inputs(8)
    with connect(server.url, "tagger", "features") as other:
        first = other.push(x[:4])
        yield
        assert_same(np.concatenate([first, other.push(x[4:])]), offline(model, x))


@pytest.mark.parametrize(
    ("begun", "bytewise"),
    [
        ([], b""),
        ([], HANDSHAKE[:-2] + b"X-Slow: " + b"a" * 10_000),
        ([], HEALTH[:-2] + b"X-Slow: " + b"a" * 10_000),
        ([HANDSHAKE], b""),
        ([HANDSHAKE], frame(TEXT, b" " * 4000 + OPEN)),
        ([HANDSHAKE, frame(TEXT, OPEN)], numbers(1, inputs(100))),
        ([HANDSHAKE, frame(TEXT, OPEN)], frame(TEXT, b"a" * 60, first=0) + frame(0, b"", first=0) * 1000),
    ],
    ids=[
        "nothing at all",
        "a handshake that never ends",
        "a request that never ends",
        "no first message",
        "a first message that never ends",
        "an input that never ends",
        "a message of endless parts",
    ],
)
def test_who_sends_byte_by_byte_is_cut_off(
    impatient: Running, model: Path, begun: list[bytes], bytewise: bytes
) -> None:
    with others_go_on(impatient, model), ExitStack() as held:
        started = time.monotonic()
        peer = held.enter_context(connected(impatient.port, *begun))
        peer.settimeout(0.01)
        sent, cut = 0, False
        while not cut:
            assert sent < 9_000, "the server would have waited for all of it"
            with suppress(ConnectionError):
                peer.send(bytewise[sent : sent + 1])
            sent += 1
            try:
                cut = not peer.recv(65536)
            except TimeoutError:
                pass
            except ConnectionError:
                cut = True
        assert time.monotonic() - started > SOON / 2


def test_who_connects_and_says_nothing_keeps_nobody_out(server: Running, model: Path) -> None:
    with others_go_on(server, model), ExitStack() as held:
        places = server.service.limits.streams + 50
        mute = [held.enter_context(connected(server.port, b"G")) for _ in range(3 * places)]
        wait_for(lambda: is_ready(server))  # at once 200 connections wait, and one more is reset
        wait_for(lambda: len(server.connections) <= places + 1)
        assert not until_cut(mute[0])
        assert server.count("streamdrnn_refusals_total", code="place_needed") >= places
        with Wire(server.url) as wire:
            assert wire.open()["type"] == "opened"


def test_a_connection_has_one_request(server: Running) -> None:
    with connected(server.port, b"POST /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n") as peer:
        assert until_cut(peer).startswith(b"HTTP/1.1 405")  # its body is not waited for
    with connected(server.port, HEALTH * 1000) as peer:
        answer = until_cut(peer)
    assert answer.count(b"HTTP/1.1 200") == 1
    assert b"connection: close" in answer.lower()


@pytest.mark.parametrize(("leave", "rate"), [(False, 20.0), (True, 0.5)])
def test_new_connections_wait_for_their_turns(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, leave: bool, rate: float
) -> None:
    """Those that have left have none."""
    monkeypatch.setattr(sockets, "CONNECTIONS_PER_SECOND", rate)
    places = 1 + 50
    with running([model], tmp_path / "s", Limits(streams=1)) as server, ExitStack() as held:
        for _ in range(places):  # those that come at once
            held.enter_context(connected(server.port))
        wait_for(lambda: len(server.connections) == places)
        started = time.monotonic()
        for _ in range(9):
            peer = held.enter_context(connected(server.port))
            if leave:
                peer.close()
        assert status(server, "healthz") == 200
        waited = time.monotonic() - started
        assert waited < 9 / rate if leave else waited > 9 / rate


def test_so_many_new_connections_wait_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "MOST_WAITING", 10)
    connections = [Mock(**{"transport.is_closing.return_value": False}) for _ in range(15)]
    admission = sockets.Admission(most=2.0)
    for connection in connections:
        admission.ask(connection)
    assert [connection.loop.call_soon.called for connection in connections] == [True] * 2 + [False] * 13
    cut = [connection.cut.call_args_list for connection in connections]
    assert cut == [[]] * 12 + [[call(Cut.TOO_MANY_WAITING)]] * 3


def test_an_error_of_one_connection_keeps_no_other_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "CONNECTIONS_PER_SECOND", 1000.0)
    errors = list[Exception]()

    async def wait_for_turns() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda loop, context: errors.append(context["exception"]))
        connections = [Mock(loop=loop, **{"transport.is_closing.return_value": False}) for _ in range(3)]
        connections[1].admit.side_effect = AssertionError("a bug of ours")
        admission = sockets.Admission(most=1.0)
        for connection in connections:
            admission.ask(connection)
        async with asyncio.timeout(PATIENCE):
            while not connections[2].admit.called:
                await asyncio.sleep(0.001)

    asyncio.run(wait_for_turns())
    assert [str(error) for error in errors] == ["a bug of ours"]


def test_websockets_are_as_many_as_may_be_and_health_has_places_of_its_own(model: Path, tmp_path: Path) -> None:
    most = 1 + 50
    with running([model], tmp_path / "s", Limits(streams=1)) as server, ExitStack() as held:
        peers = [held.enter_context(connected(server.port)) for _ in range(most)]  # all, before the first asks
        for peer in peers:
            peer.sendall(HANDSHAKE)
            shake_hands(peer)
        for method in (b"GET", b"HEAD"):
            with connected(server.port) as late:
                late.sendall(HANDSHAKE.replace(b"GET", method))
                assert until_cut(late).startswith(b"HTTP/1.1 503")
        assert server.count("streamdrnn_refusals_total", code="too_many_websockets") == 2
        assert status(server) == status(server, "metrics") == 200
        peers[0].close()
        wait_for(lambda: len(server.connections) < most)
        with Wire(server.url) as wire:
            assert wire.open()["type"] == "opened"


def test_headers_without_end_are_not_kept(server: Running, model: Path) -> None:
    many = b"".join(b"X-%d: %s\r\n" % (i, b"a" * 1000) for i in range(20_000))
    for headers in (b"X: " + b"a" * 20_000_000, many):
        with others_go_on(server, model), connected(server.port, HEALTH[:-2]) as peer:
            sent = 0
            with suppress(ConnectionError):
                for at in range(0, len(headers), 4096):
                    sent += peer.send(headers[at : at + 4096])
            assert sent < 10_000_000  # what sockets hold, and no more


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
    "with a body": HANDSHAKE[:-2] + b"Content-Length: 1\r\n\r\n",
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


def websockets_of(server: Running) -> list[BoundedWebSocket]:
    return [one for one in server.connections if isinstance(one, BoundedWebSocket)]


def answer_handshakes_when(monkeypatch: pytest.MonkeyPatch, ready: Callable[[BoundedWebSocket], bool]) -> None:
    send = WebSocketsSansIOProtocol.send

    async def send_then(self: BoundedWebSocket, message: Any) -> None:
        while not ready(self) and not self.disconnected:
            await asyncio.sleep(0.01)
        await send(self, message)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "send", send_then)


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


FRAME_GARBAGE = {
    "not masked": frame(BINARY, b"", masked=False),
    "an opcode that there is not": frame(3, b""),
    "reserved bits": frame(BINARY, b"", first=0xF0),
    "a part of no message": frame(0, b"abc"),
    "a message in a message": frame(TEXT, b"{", first=0) + frame(TEXT, b"}"),
    "numbers in a message": frame(TEXT, b"{", first=0) + numbers(2, inputs(2)),
    "a ping in parts": frame(PING, b"", first=0),
    "a long ping": frame(PING, bytes(126)),
    "a close of one byte": frame(CLOSE, b"1"),
    "a close with a code that cannot be": frame(CLOSE, struct.pack(">H", 999)),
    "a close that is no text": frame(CLOSE, struct.pack(">H", 1000) + b"\xff"),
    "text that is none": frame(TEXT, b'"\xff"'),
    "a message of 2^63 bytes": frame(BINARY, b"", length=2**63 - 1),
    "a message of 2^64 - 1 bytes": frame(BINARY, b"", length=2**64 - 1),
    "a gigabyte": frame(BINARY, b"", length=2**30),
    "a megabyte in parts": frame(BINARY, bytes(50_000), first=0) + frame(0, bytes(50_000), first=0) * 20,
    "random bytes": np.random.default_rng(1).bytes(5000),
}


@pytest.mark.parametrize("garbage", FRAME_GARBAGE.values(), ids=FRAME_GARBAGE)
def test_what_is_no_frame_ends_its_connection_and_loses_nothing(server: Running, model: Path, garbage: bytes) -> None:
    x = inputs(7)
    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN), numbers(1, x[:3])) as peer:
        opened, first = read(peer, 2)
        with suppress(ConnectionError):
            peer.sendall(garbage)
        until_cut(peer)
    with Wire(server.url) as wire:
        assert wire.restore(json.loads(opened)["stream"], ack=1)["seq"] == 1
        wire.send(2, x[3:], 1)
        rest = wire.result()[1]
    got = np.frombuffer(unpack_result(first).payload, "<f4").reshape(-1, 2)
    assert_same(np.concatenate([got, rest]), offline(model, x))


@pytest.mark.parametrize("size", [2**17, 2**30, 2**63 - 1])
def test_who_announces_too_much_is_refused_before_it_is_sent(server: Running, size: int) -> None:
    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN)) as peer:
        read(peer, 1)
        peer.sendall(frame(BINARY, b"", length=size))
        (refusal,) = read(peer, 1)
    assert int.from_bytes(refusal[:2], "big") == 1009  # a close frame; RFC 6455, section 7.4.1


def test_numbers_that_look_like_a_frame_are_numbers(server: Running, model: Path) -> None:
    """They come in a segment of their own, after the beginning of the message that they are in."""
    inner = numbers(1, np.zeros((10, 3), np.float32))  # whole rows of three
    x = np.frombuffer(inner, "<f4").reshape(-1, 3).copy()
    message = numbers(1, x)
    assert message.endswith(inner)
    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN)) as peer:
        read(peer, 1)
        (shortcut,) = websockets_of(server)
        peer.sendall(message[: -len(inner)])
        wait_for(lambda: len(shortcut._unparsed) == len(message) - len(inner))
        peer.sendall(inner)
        (answer,) = read(peer, 1)
    assert_same(np.frombuffer(unpack_result(answer).payload, "<f4").reshape(-1, 2), offline(model, x))


@examples(15)
@given(
    before=st.sampled_from([[], [HANDSHAKE], [HANDSHAKE, frame(TEXT, OPEN)]]),
    garbage=st.binary(max_size=300),
)
def test_any_bytes_are_survived(server: Running, before: list[bytes], garbage: bytes) -> None:
    with connected(server.port, *before) as peer:
        with suppress(ConnectionError):
            peer.sendall(garbage)
            peer.shutdown(socket.SHUT_WR)
        until_cut(peer)
    assert status(server) == 200


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
@pytest.mark.parametrize("sent", PLACES_TO_LEAVE.values(), ids=PLACES_TO_LEAVE)
def test_who_leaves_without_a_word_leaves_nothing_behind(
    server: Running, sent: list[bytes], leave: Callable[[socket.socket], object]
) -> None:
    for wait in (0.0, 0.02):
        with connected(server.port, *sent) as peer:
            time.sleep(wait)
            leave(peer)


@pytest.mark.parametrize("leave", LEAVE.values(), ids=LEAVE)
def test_nothing_is_said_to_a_client_that_has_left(server: Running, leave: Callable[[socket.socket], object]) -> None:
    """A result that comes then must not end the passes."""
    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN)) as peer:
        read(peer, 1)
        (shortcut,) = websockets_of(server)
        assert shortcut.say(b"something")
        leave(peer)
    wait_for(lambda: shortcut.disconnected)
    assert not shortcut.say(b"something")


@pytest.mark.parametrize("parts", [1, 2])
def test_what_comes_at_once_is_heard_in_its_order(server: Running, model: Path, parts: int) -> None:
    """Numbers take a shorter way than texts, and than numbers in several frames."""
    x = inputs(12)
    reset = frame(TEXT, json.dumps({"type": "reset", "seq": 2, "ack": 0}).encode())

    def said(seq: int, part: np.ndarray) -> bytes:
        message = pack_input(Input(seq, 0, part.tobytes()))
        return frame(BINARY, message) if parts == 1 else frame(BINARY, message[:30], first=0) + frame(0, message[30:])

    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN)) as peer:
        read(peer, 1)
        peer.sendall(said(1, x[:4]) + reset + said(3, x[4:8]) + said(4, x[8:]) + frame(TEXT, b'{"type": "close"}'))
        answers = [unpack_result(answer) for answer in read(peer, 4)]
    assert [answer.seq for answer in answers] == [1, 2, 3, 4]
    first, nothing, *rest = (np.frombuffer(answer.payload, "<f4").reshape(-1, 2) for answer in answers)
    assert_same(first, offline(model, x[:4]))
    assert len(nothing) == 0
    assert_same(np.concatenate(rest), offline(model, x[4:]))


def test_inputs_of_a_client_that_sends_no_more_are_heard(server: Running, model: Path) -> None:
    """Half a connection is none: but what came over it before is processed, and kept for the client."""
    x = inputs(6)
    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN)) as peer:
        (opened,) = read(peer, 1)
        peer.sendall(numbers(1, x[:4]))
        peer.shutdown(socket.SHUT_WR)
        until_cut(peer)
    with Wire(server.url) as wire:
        assert wire.restore(json.loads(opened)["stream"], ack=0)["seq"] == 1
        first = wire.result()[1]
        wire.send(2, x[4:], 1)
        assert_same(np.concatenate([first, wire.result()[1]]), offline(model, x))


FLOODS = {
    "pings": frame(PING, b""),
    "long pings": frame(PING, bytes(125)),
    "pongs": frame(PONG, b""),
    "empty parts": frame(0, b"", first=0),
    "small parts": frame(0, b"a", first=0),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
@pytest.mark.parametrize("opened", [False, True])
def test_frames_that_carry_no_message_are_few(
    server: Running, model: Path, opened: bool, flood: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Few are parsed, whatever is sent, and the connection ends; so nobody else waits for them."""
    begun = [HANDSHAKE, frame(TEXT, OPEN)] if opened else [HANDSHAKE]
    first = frame(BINARY, b"", first=0) if flood[0] & 0x0F == 0 else b""
    with others_go_on(server, model):
        with connected(server.port, *begun) as peer:
            parsed = counted(monkeypatch)
            with suppress(ConnectionError):
                peer.sendall(first + flood * 20_000)
            came = until_cut(peer)
        wait_for(lambda: len(server.connections) == 1)
        monkeypatch.undo()
    assert sum(parsed) < websocket.MOST_FRAMES + 100
    assert len(came) < 100_000


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
        ("bad_request", [ONLY_TO_H11["with a body"]]),
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
    assert bool(caplog.records) == any(OPEN in part or b"{}" in part for part in sent)


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
    wait_until_nobody_is_there(strict_server)
    (fields,) = [vars(record)["fields"] for record in caplog.records if record.message == "stream ends"]
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
    wait_until_nobody_is_there(server)
    (fields,) = [vars(record)["fields"] for record in caplog.records if record.message == "stream ends"]
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


def test_honest_pings_and_large_parts_are_welcome(server: Running, model: Path) -> None:
    x = inputs(100)
    message = pack_input(Input(1, 0, x.tobytes()))
    parts = [message[i : i + 600] for i in range(0, len(message), 600)]
    frames = [frame(BINARY if i == 0 else 0, part, first=0x80 * (i == len(parts) - 1)) for i, part in enumerate(parts)]
    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN), frame(PING, b"?") * 20, *frames) as peer:
        answers = read(peer, 22)
    assert answers.count(b"?") == 20
    assert_same(np.frombuffer(unpack_result(answers[-1]).payload, "<f4").reshape(-1, 2), offline(model, x))


@pytest.mark.parametrize(
    ("begun", "last"),
    [([], frame(TEXT, b"{}")), ([frame(TEXT, OPEN)], numbers(7, inputs(1)))],
    ids=["never opened", "opened"],
)
def test_what_follows_the_end_of_a_stream_is_bounded_too(
    impatient: Running, monkeypatch: pytest.MonkeyPatch, begun: list[bytes], last: bytes
) -> None:
    with connected(impatient.port, HANDSHAKE, *begun) as peer:
        read(peer, len(begun))
        parsed = counted(monkeypatch)
        with suppress(ConnectionError):
            peer.sendall(last + frame(BINARY, b"") * 50_000)
        until_cut(peer)
    assert sum(parsed) < websocket.MOST_FRAMES + 200


def counted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many frames are parsed at a time from now on."""
    parsed = list[int]()
    events_received = ServerProtocol.events_received

    def count(protocol: ServerProtocol) -> list[Any]:
        events = events_received(protocol)
        parsed.append(len(events))
        return events

    monkeypatch.setattr(ServerProtocol, "events_received", count)

    def count_message(data: bytes, most: int) -> bytes | None:
        parsed.append(1)
        return message_of(data, most)

    monkeypatch.setattr(websocket, "message_of", count_message)
    return parsed


def test_who_does_not_read_his_own_refusal_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """His results fill all buffers, so that closing alone would wait for him."""
    monkeypatch.setattr(websocket, "LEAVE_SECONDS", SOON)
    wide, limits = tagger_file(tmp_path, "wide", outputs=4000), Limits(2, idle_seconds=SOON, unread_bytes=10**9)
    opening, zeros = frame(TEXT, OPEN.replace(b"tagger", b"wide")), np.zeros((100, 3), np.float32)
    sent = [HANDSHAKE, opening, *(numbers(seq, zeros) for seq in range(1, 33))]
    with running([wide], tmp_path / "s", limits) as server, connected(server.port, *sent, receive_buffer=4096):
        wait_for(lambda: server.count("streamdrnn_refusals_total", code="idle") == 1)
        wait_for(lambda: not server.connections)
        assert server.count("streamdrnn_streams", model="wide") == 0


@contextmanager
def leaving(server: Running) -> Iterator[None]:
    stopping = threading.Thread(target=server.stop)
    stopping.start()
    yield
    stopping.join()


def assert_is_told_to_go_elsewhere(peer: socket.socket) -> None:
    assert until_cut(peer) == bytes([0x80 | CLOSE, 2]) + struct.pack(">H", 1012)


def test_a_peer_that_closes_and_does_not_read_keeps_no_other_from_an_orderly_end(tmp_path: Path) -> None:
    wide = tagger_file(tmp_path, "wide", outputs=4000)
    opening, zeros = frame(TEXT, OPEN.replace(b"tagger", b"wide")), np.zeros((100, 3), np.float32)
    sent = [HANDSHAKE, opening, *(numbers(seq, zeros) for seq in range(1, 9))]
    with running([wide], tmp_path / "s", Limits(2, unread_bytes=10**9)) as server, ExitStack() as held:
        stuck = held.enter_context(connected(server.port, *sent, receive_buffer=4096))
        wait_for(lambda: any(not one.writable.is_set() for one in websockets_of(server)))
        stuck.sendall(frame(CLOSE, struct.pack(">H", 1000)))
        others = [held.enter_context(connected(server.port, HANDSHAKE)) for _ in range(2)]
        wait_for(lambda: sum(one.conn.state is State.OPEN for one in websockets_of(server)) == len(others))
        with leaving(server):
            for other in others:
                assert_is_told_to_go_elsewhere(other)
            stuck.close()


def test_an_error_of_one_connection_keeps_no_other_from_an_orderly_end(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    shutdown, broken = WebSocketsSansIOProtocol.shutdown, list[BoundedWebSocket]()

    def break_once(self: BoundedWebSocket) -> None:
        if not broken:
            broken.append(self)
            raise AssertionError("a bug of ours")
        shutdown(self)

    monkeypatch.setattr(WebSocketsSansIOProtocol, "shutdown", break_once)
    with running([model], tmp_path / "s", Limits(2)) as server, ExitStack() as held:
        peers = {}
        for _ in range(3):
            peer = held.enter_context(connected(server.port, HANDSHAKE))
            peers[peer.getsockname()] = peer
        with leaving(server):
            wait_for(lambda: bool(broken))
            peers.pop(broken[0].client).close()
            for peer in peers.values():
                assert_is_told_to_go_elsewhere(peer)
    assert sum(bool(record.exc_info) for record in caplog.records) == 1
    caplog.clear()
