"""Peers that leave without a word, that do not read, and those that a server which stops has to leave."""

import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from websockets.protocol import State

from streamdrnn.apps.serving import websocket
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.websocket import BoundedWebSocket
from tests.serving.raw import (
    CLOSE,
    HANDSHAKE,
    LEAVE,
    OPEN,
    PLACES_TO_LEAVE,
    TEXT,
    connected,
    frame,
    numbers,
    read,
    until_cut,
)
from tests.serving.servers import Running, running, tagger_file
from tests.serving.strangers.watching import SOON, websockets_of
from tests.waiting import wait_for


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
