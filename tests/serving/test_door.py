"""Connections before they say anything, and those through TLS."""

import asyncio
import errno
import logging
import socket
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from streamdrnn.apps.serving import door
from streamdrnn.apps.serving.door import Door
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.client import connect
from tests.serving.raw import HEALTH, connected, reset, until_cut
from tests.serving.servers import Running, inputs, running, tagger_file, trusting_anybody, write_certificate
from tests.waiting import PATIENCE, wait_for

PLACES = 1 + 50


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Running]:
    """It has a certificate."""
    certificate = write_certificate(tmp_path)
    with running([tagger_file(tmp_path)], tmp_path / "s", Limits(streams=1), certificate=certificate) as server:
        yield server


def assert_serves(server: Running) -> None:
    url = server.url.replace("ws:", "wss:")
    with connect(url, "tagger", "features", ssl=trusting_anybody()) as stream:
        assert stream.push(inputs(3)).shape == (3, 2)
    page = f"{server.http}/healthz".replace("http:", "https:")
    with urllib.request.urlopen(page, timeout=PATIENCE, context=trusting_anybody()) as response:
        assert response.status == 200


def refusals(server: Running, code: str) -> float:
    return server.count("streamdrnn_refusals_total", code=code)


def test_who_does_not_shake_hands_keeps_nobody_out(server: Running) -> None:
    with ExitStack() as held:
        silent = [held.enter_context(connected(server.port)) for _ in range(PLACES + 20)]
        wait_for(lambda: refusals(server, "place_needed") == 20)
        assert not until_cut(silent[0])
        assert_serves(server)


def test_who_shakes_hands_too_slowly_or_not_at_all_is_cut_off(
    server: Running, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(door, "HANDSHAKE_SECONDS", 0.5)
    with connected(server.port) as silent:
        assert not until_cut(silent)
    wait_for(lambda: refusals(server, "too_slow") == 1)
    with connected(server.port, HEALTH) as wrong:
        until_cut(wrong)
    wait_for(lambda: refusals(server, "bad_request") == 1)
    with connected(server.port, bytes.fromhex("16030100f8010000f40303")) as left:
        reset(left)
    assert_serves(server)
    assert not caplog.records


def test_who_does_not_let_its_connection_close_keeps_no_place(server: Running) -> None:
    """With TLS a side that closes waits for the other."""
    with ExitStack() as held:
        for _ in range(PLACES + 20):
            peer = held.enter_context(connected(server.port))
            peer = held.enter_context(trusting_anybody().wrap_socket(peer))
            peer.sendall(HEALTH)
            assert peer.recv(8) == b"HTTP/1.1"
        wait_for(lambda: len(server.connections) <= PLACES)
        assert refusals(server, "place_needed") == 0
        assert_serves(server)


def test_a_system_without_files_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(door, "_PAUSE_SECONDS", 0.01)

    async def accept() -> None:
        loop: Any = asyncio.get_running_loop()
        sock_accept, failures = loop.sock_accept, [OSError(errno.EMFILE, "Too many open files")]

        async def accept_or_fail(listener: socket.socket) -> Any:
            if failures:
                raise failures.pop()
            return await sock_accept(listener)

        loop.sock_accept = accept_or_fail
        protocol = Mock(**{"connection_made.side_effect": lambda transport: transport.abort()})
        with socket.create_server(("127.0.0.1", 0)) as listener, connected(listener.getsockname()[1]):
            entrance = Door(lambda: protocol, None, 1, Mock())
            entrance.open(listener)
            async with asyncio.timeout(PATIENCE):
                while not protocol.connection_lost.called:
                    await asyncio.sleep(0.01)
            await entrance.close()

    asyncio.run(accept())
    assert [record.message for record in caplog.records if record.levelno == logging.ERROR] == [
        "no connection can be accepted: [Errno 24] Too many open files"
    ]


def test_handshakes_have_turns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes time of the loop in which streams are served."""
    monkeypatch.setattr(door, "HANDSHAKES_PER_SECOND", 20.0)
    waited = list[float]()

    async def accept() -> None:
        rest = asyncio.sleep

        async def note(seconds: float) -> None:
            waited.append(seconds)
            await rest(0)

        monkeypatch.setattr(asyncio, "sleep", note)
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(*write_certificate(tmp_path))
        refused = Mock()
        with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as held:
            for _ in range(5):
                held.enter_context(connected(listener.getsockname()[1]))
            entrance = Door(Mock(), tls, 3, refused)
            entrance.open(listener)
            async with asyncio.timeout(PATIENCE):
                while refused.call_count < 2:  # as many as came beyond the places
                    await rest(0.01)
            await entrance.close()

    asyncio.run(accept())
    assert max(waited) > 0.02, "the fourth has to wait for a twentieth of a second"
