"""Frames that no client library would send, and those that come in an unusual shape: nothing of a stream is lost."""

import json
import socket
import struct
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn.client.protocol import Input, pack_input, unpack_result
from tests.serving.raw import (
    BINARY,
    CLOSE,
    HANDSHAKE,
    OPEN,
    PING,
    TEXT,
    connected,
    frame,
    numbers,
    read,
    until_cut,
)
from tests.serving.servers import Running, Wire, assert_same, inputs, offline
from tests.serving.strangers.watching import status, websockets_of
from tests.strategies import examples
from tests.waiting import wait_for

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


def test_honest_pings_and_large_parts_are_welcome(server: Running, model: Path) -> None:
    x = inputs(100)
    message = pack_input(Input(1, 0, x.tobytes()))
    parts = [message[i : i + 600] for i in range(0, len(message), 600)]
    frames = [frame(BINARY if i == 0 else 0, part, first=0x80 * (i == len(parts) - 1)) for i, part in enumerate(parts)]
    with connected(server.port, HANDSHAKE, frame(TEXT, OPEN), frame(PING, b"?") * 20, *frames) as peer:
        answers = read(peer, 22)
    assert answers.count(b"?") == 20
    assert_same(np.frombuffer(unpack_result(answers[-1]).payload, "<f4").reshape(-1, 2), offline(model, x))
