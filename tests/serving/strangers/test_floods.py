"""Frames without a message, by the ten thousand: few are parsed."""

from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from websockets.server import ServerProtocol

from streamdrnn.apps.serving import websocket
from streamdrnn.apps.serving.frames import message_of
from tests.serving.raw import (
    BINARY,
    HANDSHAKE,
    OPEN,
    PING,
    PONG,
    TEXT,
    connected,
    frame,
    numbers,
    read,
    until_cut,
)
from tests.serving.servers import Running, inputs
from tests.serving.strangers.watching import others_go_on
from tests.waiting import wait_for

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
