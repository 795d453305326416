"""Who connects and asks for nothing, slowly or without end: a bounded time and memory each, and the others go on."""

import asyncio
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from unittest.mock import Mock, call

import pytest

from streamdrnn.apps.serving import sockets
from streamdrnn.apps.serving.limits import Cut, Limits
from tests.serving.raw import (
    HANDSHAKE,
    HEALTH,
    OPEN,
    TEXT,
    connected,
    frame,
    numbers,
    shake_hands,
    until_cut,
)
from tests.serving.servers import Running, Wire, inputs, running
from tests.serving.strangers.watching import (
    SOON,
    others_go_on,
    status,
)
from tests.waiting import PATIENCE, wait_for


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


def is_ready(server: Running) -> bool:
    try:
        return status(server) == 200
    except (ConnectionError, urllib.error.URLError):
        return False


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
