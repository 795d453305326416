"""Connections byte by byte, for what no client library would send."""

import json
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO

import numpy as np

from streamdrnn.client.protocol import Input, pack_input
from tests.serving.servers import inputs
from tests.waiting import PATIENCE

HANDSHAKE = (
    b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HANDSHAKE_WITH_A_BODY = HANDSHAKE[:-2] + b"Content-Length: 1\r\n\r\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
OPEN = json.dumps({"type": "open", "version": 1, "model": "tagger", "format": "features"}).encode()
TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


def frame(opcode: int, payload: bytes, first: int = 0x80, masked: bool = True, length: int | None = None) -> bytes:
    """A frame as a client sends it; ``first`` are the bits before the opcode, ``length`` is what it says it has."""
    n, mask = len(payload) if length is None else length, 0x80 if masked else 0
    if n < 126:
        size = bytes([mask | n])
    else:
        size = bytes([mask | 126]) + struct.pack(">H", n) if n < 2**16 else bytes([mask | 127]) + struct.pack(">Q", n)
    return bytes([first | opcode]) + size + (bytes(4) if masked else b"") + payload  # a mask of zeros


def numbers(seq: int, x: np.ndarray) -> bytes:
    return frame(BINARY, pack_input(Input(seq, 0, x.tobytes())))


@contextmanager
def connected(port: int, *sent: bytes, receive_buffer: int | None = None) -> Iterator[socket.socket]:
    with socket.socket() as peer:
        if receive_buffer is not None:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        peer.settimeout(PATIENCE)
        peer.connect(("127.0.0.1", port))
        for part in sent:
            peer.sendall(part)
            if part == HANDSHAKE:
                shake_hands(peer)
        yield peer


def shake_hands(peer: socket.socket) -> None:
    answer = b""
    while not answer.endswith(b"\r\n\r\n"):
        answer += peer.recv(1)
    assert answer.startswith(b"HTTP/1.1 101"), answer


def until_cut(peer: socket.socket) -> bytes:
    """All that comes before the server ends the connection."""
    came = bytearray()
    with suppress(ConnectionError):
        while part := peer.recv(65536):
            came += part
    return bytes(came)


def read(peer: socket.socket, frames: int) -> list[bytes]:
    """The payloads of the next frames."""
    with peer.makefile("rb") as file:
        return [next_frame(file) for _ in range(frames)]


def next_frame(file: IO[bytes]) -> bytes:
    _, size = file.read(2)
    if size == 126:
        (size,) = struct.unpack(">H", file.read(2))
    return file.read(size)


def reset(peer: socket.socket) -> None:
    """End the connection as a machine does that is not there any more."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()


PLACES_TO_LEAVE = {
    "at once": [],
    "in the handshake": [HANDSHAKE[:40]],
    "after the handshake": [HANDSHAKE],
    "after open": [HANDSHAKE, frame(TEXT, OPEN)],
    "in a frame": [HANDSHAKE, frame(TEXT, OPEN), numbers(1, inputs(9))[:20]],
    "with results under way": [HANDSHAKE, frame(TEXT, OPEN), *(numbers(seq, inputs(50)) for seq in range(1, 30))],
    "with more wrong than right": [HANDSHAKE, frame(TEXT, OPEN), *(numbers(1, inputs(5)) for _ in range(9))],
    "while it is closed": [HANDSHAKE, frame(TEXT, OPEN), frame(TEXT, b'{"type": "close"}')],
}

LEAVE: dict[str, Callable[[socket.socket], object]] = {
    "reset": reset,
    "half-closed": lambda peer: peer.shutdown(socket.SHUT_WR),
    "closed": lambda peer: None,
}
