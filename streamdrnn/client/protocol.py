"""The messages between a client and a server, version 1; docs/serving.md tells it in words.

Text messages are JSON objects with a ``type``. Binary messages carry numbers, all little-endian. Everything that
changes a stream has a sequence number, 1, 2, 3, ...; each gets exactly one result, of the same number.
"""

import struct
from enum import IntEnum
from typing import Any, NamedTuple

import numpy as np

VERSION = 1
PATH = "/v1/stream"

FORMATS: dict[str, np.dtype[Any]] = {"float32": np.dtype("<f4"), "pcm16": np.dtype("<i2"), "features": np.dtype("<f4")}
"""How inputs are written: samples from -1 to 1, samples of 16 bits, or the network's inputs, step by step."""

MAX_SEQUENCE = 2**63 - 1
_INPUT = struct.Struct("<QQ")
_RESULT = struct.Struct("<Q")
INPUT_HEADER = _INPUT.size


class Code(IntEnum):
    """Why the server ends a connection: the code of the WebSocket's close frame."""

    SERVER_LEAVES = 1012
    BAD_MESSAGE = 4400
    UNAUTHORISED = 4401
    UNKNOWN_MODEL = 4404
    UNKNOWN_STREAM = 4406
    IDLE = 4408
    BAD_SEQUENCE = 4409
    REPLACED = 4410
    FRAME_TOO_LARGE = 4413
    BAD_VALUE = 4422
    TOO_FAST = 4429
    STORE_FAILED = 4500
    TOO_MANY_STREAMS = 4503


class Input(NamedTuple):
    """A client's message: its number, the last result that the client has, and the numbers in the stream's format."""

    seq: int
    ack: int
    payload: bytes


class Result(NamedTuple):
    """A server's answer: the input's number, and ``(steps, E)`` float32, flat."""

    seq: int
    payload: bytes


def pack_input(message: Input) -> bytes:
    return _INPUT.pack(message.seq, message.ack) + message.payload


def unpack_input(data: bytes) -> Input:
    """Raises ``ValueError`` if the message is too short for its header."""
    if len(data) < _INPUT.size:
        raise ValueError(f"a binary message has {_INPUT.size} bytes of header or more, got {len(data)}")
    seq, ack = _INPUT.unpack_from(data)
    return Input(seq, ack, data[_INPUT.size :])


def pack_result(message: Result) -> bytes:
    return _RESULT.pack(message.seq) + message.payload


def unpack_result(data: bytes) -> Result:
    """Raises ``ValueError`` if the message is too short for its header."""
    if len(data) < _RESULT.size:
        raise ValueError(f"a result has {_RESULT.size} bytes of header or more, got {len(data)}")
    (seq,) = _RESULT.unpack_from(data)
    return Result(seq, data[_RESULT.size :])
