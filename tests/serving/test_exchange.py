"""Whenever connections are cut and servers are killed, a client gets every result, once, in its order, and right.

The server here is a few lines that keep the protocol as docs/serving.md tells it; what it computes are running sums.
"""

import copy
import json
from dataclasses import dataclass, field
from itertools import chain, cycle
from typing import Optional, Union

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamdrnn.client.exchange import Exchange, RefusedError
from streamdrnn.client.protocol import Code, Result, pack_result, unpack_input
from tests.strategies import examples

Message = Union[str, bytes]
WINDOW, FRAME = 3, 4


@dataclass
class Heard:
    """A stream as a server has it."""

    seq: int = 0
    ack: int = 0
    total: float = 0.0
    results: dict[int, bytes] = field(default_factory=dict)


class SumServer:
    """A server that can be cut off, and killed."""

    def __init__(self) -> None:
        self.now, self.saved = Heard(), Heard()

    def hear(self, message: Message) -> list[Message]:
        if isinstance(message, bytes):
            seq, ack, payload = unpack_input(message)
            totals = self.now.total + np.cumsum(np.frombuffer(payload, "<f4"), dtype=np.float32)
            self.now.total = float(totals[-1]) if len(totals) else self.now.total
            return [self._answer(seq, ack, totals.astype("<f4").tobytes())]
        fields = json.loads(message)
        if fields["type"] == "reset":
            self.now.total = 0.0
            return [self._answer(fields["seq"], fields["ack"], b"")]
        if fields["type"] in ("open", "restore"):
            self._forget(fields.get("ack", 0))
            opened = {"type": "opened", "stream": "s", "seq": self.now.seq, "window": WINDOW, "max_frame": FRAME}
            opened |= {"rate": 1e9, "burst_seconds": 1e9, "input_size": 1, "output_size": 1, "hop_length": 1}
            return [json.dumps(opened), *self.now.results.values()]
        assert fields["type"] == "snapshot"
        return [self.save()]

    def save(self) -> Message:
        self.saved = copy.deepcopy(self.now)
        return json.dumps({"type": "snapshot", "seq": self.now.seq})

    def kill(self) -> None:
        self.now = copy.deepcopy(self.saved)

    def _answer(self, seq: int, ack: int, payload: bytes) -> bytes:
        assert seq == self.now.seq + 1
        assert seq - min(ack, self.now.seq) <= WINDOW
        self._forget(min(ack, self.now.seq))
        self.now.seq = seq
        self.now.results[seq] = pack_result(Result(seq, payload))
        return self.now.results[seq]

    def _forget(self, ack: int) -> None:
        assert ack >= self.now.ack
        self.now.ack = min(ack, self.now.seq)
        self.now.results = {seq: result for seq, result in self.now.results.items() if seq > ack}


CALM = ("send", "hear", "read")


@examples(100)
@given(
    parts=st.lists(st.one_of(st.none(), st.integers(0, 11)), min_size=3, max_size=10),
    events=st.lists(st.sampled_from((*CALM, *CALM, "save", "cut", "kill")), min_size=40, max_size=80),
    late=st.integers(0, 5),
)
def test_no_result_is_lost_or_wrong_or_comes_twice(parts: list[Optional[int]], events: list[str], late: int) -> None:
    """Parts are counts of numbers, None a reset; at a cut the server still hears ``late`` of what is under way."""
    server, client = SumServer(), Exchange("sums", "features")
    client.receive(server.hear(client.greeting())[0])
    numbers, want, total, given = list[tuple[int, int]](), list[np.ndarray](), 0.0, 0
    for part in parts:
        if part is None:
            numbers.append((client.add_reset(),) * 2)
            want.append(np.zeros((0, 1), np.float32))
            total = 0.0
        else:
            x = np.arange(given, given + part, dtype=np.float32)[:, None]
            numbers.append(client.add(x))
            want.append(total + np.cumsum(x, axis=0))
            total, given = float(want[-1][-1, 0]) if part else total, given + part
    there, back = list[Message](), list[Message]()
    for event in chain(events, cycle(CALM)):
        if event == "send":
            message = client.next_message()
            assert not isinstance(message, float)
            if isinstance(message, bytes):
                assert unpack_input(message).seq <= server.now.seq + WINDOW
            there += [] if message is None else [message]
        elif event == "hear" and there:
            back += server.hear(there.pop(0))
        elif event == "read" and back:
            client.receive(back.pop(0))
        elif event == "save":
            back.append(server.save())
        elif event in ("cut", "kill"):
            if event == "cut":
                for message in there[:late]:
                    server.hear(message)
                server.save()
            server.kill()
            there, back = [], server.hear(client.greeting())
            client.receive(back.pop(0))
        if client.answered(numbers[-1][1]):
            break
    for (first, last), rows in zip(numbers, want, strict=True):
        np.testing.assert_array_equal(client.take(first, last), rows)


def test_a_server_that_does_not_keep_to_the_protocol_is_noticed() -> None:
    server, client = SumServer(), Exchange("sums", "features")
    client.receive(server.hear(client.greeting())[0])
    client.add(np.zeros((1, 1)))
    for wrong in (
        "{",
        "[]",
        '{"type": "snapshot"}',
        b"123",
        pack_result(Result(2, b"")),
        pack_result(Result(1, b"12")),
    ):
        with pytest.raises(ConnectionError, match="does not keep to the protocol"):
            client.receive(wrong)
    with pytest.raises(RefusedError, match="continues after input 9") as refusal:
        client.receive(json.dumps({"type": "opened", "seq": 9}))
    assert refusal.value.code == Code.BAD_SEQUENCE


def test_what_is_sent_again_keeps_to_the_window_of_the_new_connection() -> None:
    server, client = SumServer(), Exchange("sums", "features")
    client.receive(server.hear(client.greeting())[0])
    client.add(np.zeros((FRAME * 8, 1)))
    for _ in range(6):
        message = client.next_message()
        assert isinstance(message, bytes)
        client.receive(server.hear(message)[0])
    server.kill()
    client.receive(server.hear(client.greeting())[0])
    again = [client.next_message() for _ in range(WINDOW + 1)]
    assert [unpack_input(message).seq for message in again if isinstance(message, bytes)] == [1, 2, 3]
    assert again[-1] is None
