"""Frames that need no parser are those that the parser and the clients of a library know."""

from typing import Union

from hypothesis import example, given
from hypothesis import strategies as st
from websockets.frames import Frame, Opcode

from streamdrnn.apps.serving.frames import MOST_HEADER, frame_of, frame_size, message_of
from tests.strategies import examples


def payload(size: int) -> bytes:
    return bytes(range(256)) * (size // 256) + bytes(range(size % 256))


# Sizes are told in one byte, in three and in nine.
payloads = (st.sampled_from([0, 1, 125, 126, 127, 4000, 65535, 65536, 70000]) | st.integers(0, 300)).map(payload)
whole = st.builds(Frame, st.sampled_from([Opcode.BINARY, Opcode.TEXT, Opcode.CONT]), payloads, st.booleans())
pings = st.builds(Frame, st.just(Opcode.PING), st.binary(max_size=125))


@examples(200)
@given(whole | pings, st.booleans(), st.binary(max_size=20))
def test_where_a_frame_ends(frame: Frame, mask: bool, after: bytes) -> None:
    data = frame.serialize(mask=mask)
    told = [frame_size((data + after)[:n]) for n in range(MOST_HEADER + 1)]
    known = told.index(len(data))
    assert told == [None] * known + [len(data)] * (MOST_HEADER + 1 - known)
    assert frame_size(bytearray(data + after)) == len(data)


@examples(200)
@example(Frame(Opcode.BINARY, payload(127)), True, 0, 0)  # as many bytes as mark a longer size
@given(whole | pings, st.booleans(), st.integers(-3, 3), st.integers(-1, 1))
def test_a_message_is_one_whole_masked_binary_frame(frame: Frame, mask: bool, more: int, room: int) -> None:
    data, most = frame.serialize(mask=mask), len(frame.data) + room
    is_one = frame.opcode == Opcode.BINARY and frame.fin and mask and more == 0 and room >= 0
    assert message_of(data[:more] if more < 0 else data + bytes(more), most) == (frame.data if is_one else None)


def test_frames_that_use_an_extension_are_left_to_the_parser() -> None:
    frame = Frame(Opcode.BINARY, b"numbers").serialize(mask=True)
    for bit in (0x40, 0x20, 0x10):
        assert message_of(bytes([frame[0] | bit]) + frame[1:], 100) is None


@examples(200)
@given(payloads | st.text(max_size=300))
def test_a_frame_is_the_librarys(message: Union[bytes, str]) -> None:
    if isinstance(message, str):
        assert frame_of(message) == Frame(Opcode.TEXT, message.encode()).serialize(mask=False)
    else:
        assert frame_of(message) == Frame(Opcode.BINARY, message).serialize(mask=False)
