"""Frames of WebSockets as bytes (RFC 6455, section 5.2): where one ends, and those that are a message each.

Nearly all that streams send and are sent are such messages; a library's parser takes four times as long for one.
"""

from typing import Optional, Union

from websockets.frames import apply_mask  # type: ignore[attr-defined]  # its C function, or Python where there is none

MOST_HEADER = 14
"""Bytes of a frame before its payload."""
_WHOLE_TEXT, _WHOLE_BINARY = 0x81, 0x82
"""The first bytes of messages in one frame, no extension used."""
_MASKED = 0x80
_SHORT, _LONG = 126, 127
"""In place of a size up to 125: the size follows in two bytes, or in eight."""


def _payload(data: Union[bytes, bytearray]) -> Optional[tuple[int, int]]:
    """Where the payload of the frame that begins some bytes begins and ends; None if that cannot be told yet."""
    if len(data) < 2:
        return None
    size, first = data[1] & ~_MASKED, 2
    if size >= _SHORT:
        first = 4 if size == _SHORT else 10
        if len(data) < first:
            return None
        size = int.from_bytes(data[2:first], "big")
    first += 4 if data[1] & _MASKED else 0
    return first, first + size


def frame_size(data: Union[bytes, bytearray]) -> Optional[int]:
    """The bytes of the frame that begins some bytes, header included; None if that cannot be told yet."""
    payload = _payload(data)
    return None if payload is None else payload[1]


def message_of(frame: bytes, most: int) -> Optional[bytes]:
    """The binary message of at most ``most`` bytes that a client's single frame is; None if it is not one."""
    payload = _payload(frame)
    if payload is None or frame[0] != _WHOLE_BINARY or not frame[1] & _MASKED:
        return None
    first, end = payload
    if end != len(frame) or end - first > most:
        return None
    return apply_mask(frame[first:], frame[first - 4 : first])


def frame_of(message: Union[bytes, str]) -> bytes:
    """A message as a server's single frame."""
    first, data = (_WHOLE_TEXT, message.encode()) if isinstance(message, str) else (_WHOLE_BINARY, message)
    size = len(data)
    if size < _SHORT:
        return bytes((first, size)) + data
    if size < 1 << 16:
        return bytes((first, _SHORT, size >> 8, size & 0xFF)) + data
    return bytes((first, _LONG)) + size.to_bytes(8, "big") + data
