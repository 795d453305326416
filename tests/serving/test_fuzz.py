"""Several streams at once that are opened, fed, cut, taken over, and spoken to wrongly, in any order.

Whatever happens: the results are those of the whole sequences offline, what is wrong is refused with the code that
docs/serving.md says, and in the end the server has everything back.
"""

import json
import socket
import sqlite3
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from websockets.exceptions import ConnectionClosed

from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.store import CLOSED
from streamdrnn.client.protocol import Code, Input, pack_input, unpack_result
from tests.serving.servers import Running, Wire, assert_same, audio_file, offline, running, tagger_file
from tests.strategies import examples
from tests.waiting import wait_for

MODELS = {"features": "tagger", "float32": "audio", "pcm16": "audio"}
LIMITS = Limits(streams=2, frame_steps=20, rate=1e6, window=4)


@dataclass
class Stream:
    """A stream as its client knows it: what it sent by number (None is a reset), and the results that it has."""

    format: str
    wire: Optional[Wire]
    id: str
    max_frame: int
    sent: list[Optional[np.ndarray]] = field(default_factory=list)
    results: list[np.ndarray] = field(default_factory=list)

    @property
    def model(self) -> str:
        return MODELS[self.format]

    @property
    def ack(self) -> int:
        return len(self.results)

    def send(self, seq: int) -> None:
        assert self.wire is not None
        x = self.sent[seq - 1]
        if x is None:
            self.wire.say(type="reset", seq=seq, ack=self.ack)
        else:
            self.wire.send(seq, x, self.ack)

    def hear(self) -> dict[str, object]:
        """The next message: a result is kept; of a text, its fields."""
        assert self.wire is not None
        message = self.wire.message()
        if isinstance(message, str):
            fields: dict[str, object] = json.loads(message)
            return fields
        seq, payload = unpack_result(message)
        assert seq == self.ack + 1
        self.results.append(np.frombuffer(payload, "<f4").reshape(-1, 2))
        return {}

    def hear_all(self) -> None:
        while self.ack < len(self.sent):
            assert self.hear().get("type", "snapshot") == "snapshot"

    def expect(self, kind: str) -> dict[str, object]:
        """The next text but for snapshots that come of themselves; results before it are kept."""
        fields = self.hear()
        while fields.get("type") != kind:
            assert fields.get("type", "snapshot") == "snapshot", fields
            fields = self.hear()
        return fields


def random_input(format: str, n: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    if format == "pcm16":
        return rng.integers(-32768, 32767, n).astype("<i2")
    return rng.standard_normal((n, 3) if format == "features" else n).astype("<f4")


def binary(seq: int, x: bytes, ack: int = 0) -> bytes:
    return pack_input(Input(seq, ack, x))


Say = Callable[[Stream, int], object]
"""Something wrong as the next message of a stream; the number is its next one's."""

WRONG: dict[str, tuple[int, Say]] = {
    "no JSON": (Code.BAD_MESSAGE, lambda s, n: "{"),
    "no object": (Code.BAD_MESSAGE, lambda s, n: "[1]"),
    "deep": (Code.BAD_MESSAGE, lambda s, n: '{"type":' * 500),
    "numbers of any length": (Code.BAD_SEQUENCE, lambda s, n: '{"type":"reset","ack":0,"seq":%s}' % ("9" * 4000)),
    "another type": (Code.BAD_MESSAGE, lambda s, n: '{"type": "\\ud800"}'),
    "open again": (Code.BAD_MESSAGE, lambda s, n: '{"type": "open", "version": 1}'),
    "long text": (Code.FRAME_TOO_LARGE, lambda s, n: " " * 4097),
    "a word to reset": (Code.BAD_MESSAGE, lambda s, n: '{"type": "reset", "seq": "1", "ack": 0}'),
    "a reset of the past": (Code.BAD_SEQUENCE, lambda s, n: json.dumps({"type": "reset", "seq": n - 1, "ack": s.ack})),
    "nothing": (Code.BAD_MESSAGE, lambda s, n: b""),
    "half a header": (Code.BAD_MESSAGE, lambda s, n: binary(n, b"")[:15]),
    "half a number": (Code.BAD_MESSAGE, lambda s, n: binary(n, b"1", s.ack)),
    "a gap": (Code.BAD_SEQUENCE, lambda s, n: binary(n + 1, b"", s.ack)),
    "the past": (Code.BAD_SEQUENCE, lambda s, n: binary(n - 1, b"", s.ack)),
    "far away": (Code.BAD_SEQUENCE, lambda s, n: binary(2**64 - 1, b"", 2**64 - 1)),
    "too long": (
        Code.FRAME_TOO_LARGE,
        lambda s, n: binary(n, random_input(s.format, s.max_frame + 1, 0).tobytes(), s.ack),
    ),
    "beyond all sizes": (1009, lambda s, n: binary(n, bytes(200_000), s.ack)),
}
NOT_FINITE: dict[str, tuple[int, Say]] = {
    "NaN": (Code.BAD_VALUE, lambda s, n: binary(n, np.full(12, np.nan, "<f4").tobytes(), s.ack)),
    "infinity": (Code.BAD_VALUE, lambda s, n: binary(n, np.full(12, -np.inf, "<f4").tobytes(), s.ack)),
}

WRONG_FIRST: list[tuple[int, object]] = [
    (Code.BAD_MESSAGE, b""),
    (Code.BAD_MESSAGE, b"\0" * 40),
    (Code.BAD_MESSAGE, "null"),
    (Code.BAD_MESSAGE, '{"type": "open", "version": NaN}'),
    (Code.BAD_MESSAGE, '{"type": "restore", "version": 1, "ack": 1e3, "stream": ""}'),
    (Code.BAD_MESSAGE, '{"type": "restore", "version": 1, "ack": 1%s, "stream": ""}' % ("0" * 99)),
    (Code.UNKNOWN_STREAM, '{"type": "restore", "version": 1, "ack": 0, "stream": "\\ud800"}'),
    (Code.UNKNOWN_MODEL, '{"type": "open", "version": 1, "model": "\\u0000", "format": "features"}'),
    (Code.BAD_MESSAGE, '{"type": "open", "version": 1, "model": "audio", "format": "features"}'),
    (Code.FRAME_TOO_LARGE, "[" * 5000),
    (1009, "[" * 200_000),
]


def refused(wire: Wire, code: int) -> None:
    """An error of a code and nothing after it but the end, with the same code; results before it are passed over."""
    errors = list[dict[str, object]]()
    with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012
        while True:
            message = wire.message()
            assert not errors
            if isinstance(message, str) and json.loads(message)["type"] == "error":
                errors.append(json.loads(message))
    end = closed.value.rcvd
    if code == 1009:
        assert not errors
        assert end is None or end.code == code
        return
    assert [error["code"] for error in errors] == [code], errors
    assert end is not None
    assert end.code == code
    wire.close()


def reset(peer: socket.socket) -> None:
    """End a connection as a machine does that is not there any more."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.shutdown(socket.SHUT_RDWR)


WAYS_TO_LEAVE: dict[str, Callable[[Wire], None]] = {
    "close": lambda wire: wire.socket.close(4999, "!"),
    "shut down": lambda wire: wire.socket.socket.shutdown(socket.SHUT_RDWR),
    "send no more": lambda wire: wire.socket.socket.shutdown(socket.SHUT_WR),
    "reset": lambda wire: reset(wire.socket.socket),
    "half a frame": lambda wire: wire.socket.socket.sendall(b"\x82\xfe\x01\x00\0\0\0\0half"),
}

which = st.integers(0, 99)
parts = st.lists(st.one_of(st.floats(0, 1), st.floats(0, 1), st.none()), min_size=1, max_size=5)


class Streams(RuleBasedStateMachine):
    """The clients of a server; each rule is something that one of them does."""

    server: Running
    folder: Path

    def __init__(self) -> None:
        super().__init__()
        self.streams = list[Stream]()
        self.wires = list[Wire]()
        self.seed = 0

    @property
    def connected(self) -> list[Stream]:
        return [stream for stream in self.streams if stream.wire]

    @property
    def lost(self) -> list[Stream]:
        return [stream for stream in self.streams if not stream.wire]

    @initialize(formats=st.lists(st.sampled_from(sorted(MODELS)), min_size=1, max_size=3))
    def begin(self, formats: list[str]) -> None:
        for format in formats:
            self.open(format)

    @rule(format=st.sampled_from(sorted(MODELS)))
    def open(self, format: str) -> None:
        wire = self.connect()
        if not self.has_place(MODELS[format]):
            wire.say(type="open", version=1, model=MODELS[format], format=format)
            refused(wire, Code.TOO_MANY_STREAMS)
            return
        opened = wire.open(MODELS[format], format)
        self.streams.append(Stream(format, wire, opened["stream"], opened["max_frame"]))

    @precondition(lambda self: self.streams)
    @rule(pushes=st.lists(st.tuples(which, parts), min_size=1, max_size=6))
    def push(self, pushes: list[tuple[int, list[Optional[float]]]]) -> None:
        """To several streams in turn, without waiting for results; None begins anew. Lost streams are continued."""
        for which, parts in pushes:
            stream = pick(self.streams, which)
            if not stream.wire:
                if not self.has_place(stream.model):
                    continue
                self.restored(stream)
            for part in parts:
                self.seed += 1
                size = 0 if part is None else round(part * stream.max_frame)
                self.say(stream, None if part is None else random_input(stream.format, size, self.seed))

    @precondition(lambda self: self.connected)
    @rule(which=which)
    def hear(self, which: int) -> None:
        pick(self.connected, which).hear_all()

    @precondition(lambda self: self.connected)
    @rule(which=which)
    def snapshot(self, which: int) -> None:
        stream = pick(self.connected, which)
        assert stream.wire is not None
        stream.wire.say(type="snapshot")
        while stream.expect("snapshot")["seq"] != len(stream.sent):
            pass  # one that came of itself

    @precondition(lambda self: self.connected)
    @rule(which=which, what=st.sampled_from(sorted(WRONG | NOT_FINITE)))
    def say_something_wrong(self, which: int, what: str) -> None:
        stream = pick(self.connected, which)
        assert stream.wire is not None
        if what in NOT_FINITE and stream.format == "pcm16":
            return  # which has no such values
        self.make_room(stream)
        code, message = (WRONG | NOT_FINITE)[what]
        with suppress(ConnectionClosed):
            stream.wire.socket.send(message(stream, len(stream.sent) + 1))  # type: ignore[arg-type]
        refused(stream.wire, code)
        stream.wire = None

    @rule(what=st.sampled_from(WRONG_FIRST))
    def begin_wrongly(self, what: tuple[int, object]) -> None:
        code, message = what
        with self.connect() as wire:
            with suppress(ConnectionClosed):
                wire.socket.send(message)  # type: ignore[arg-type]
            refused(wire, code)

    @precondition(lambda self: self.connected)
    @rule(which=which, way=st.sampled_from(sorted(WAYS_TO_LEAVE)))
    def leave(self, which: int, way: str) -> None:
        stream = pick(self.connected, which)
        assert stream.wire is not None
        with suppress(OSError):
            WAYS_TO_LEAVE[way](stream.wire)
        if way == "half a frame":
            stream.wire.socket.socket.shutdown(socket.SHUT_RDWR)
        stream.wire.close()
        stream.wire = None

    @precondition(lambda self: self.lost)
    @rule(which=which)
    def restore(self, which: int) -> None:
        stream = pick(self.lost, which)
        if self.has_place(stream.model):
            self.restored(stream)
            return
        with self.connect() as wire:
            wire.say(type="restore", version=1, stream=stream.id, ack=stream.ack)
            refused(wire, Code.TOO_MANY_STREAMS)

    @precondition(lambda self: self.connected)
    @rule(which=which)
    def take_over(self, which: int) -> None:
        stream = pick(self.connected, which)
        before = stream.wire
        assert before is not None
        self.restored(stream)
        refused(before, Code.REPLACED)

    @precondition(lambda self: self.connected)
    @rule(which=which, beyond=st.booleans())
    def restore_with_a_wrong_ack(self, which: int, beyond: bool) -> None:
        """Results that were given up cannot come again; of those that there are not, the client has none."""
        stream = pick(self.connected, which)
        stream.hear_all()
        self.say(stream, random_input(stream.format, 1, 0))  # says that it has those before
        stream.hear_all()
        assert stream.wire is not None
        with self.connect() as wire:
            if beyond:
                assert wire.restore(stream.id, stream.ack + 5)["seq"] == stream.ack
            else:
                wire.say(type="restore", version=1, stream=stream.id, ack=stream.ack - 2)
                if stream.ack == 1:
                    refused(wire, Code.BAD_MESSAGE)
                    return
                refused(wire, Code.BAD_SEQUENCE)
        refused(stream.wire, Code.REPLACED)
        stream.wire = None

    @precondition(lambda self: self.connected)
    @rule(which=which)
    def close(self, which: int) -> None:
        self.closed(pick(self.connected, which))

    @invariant()
    def the_server_is_ready(self) -> None:
        assert self.server.service.ready

    def teardown(self) -> None:
        try:
            self.finish()
        finally:  # so that what fails here does not let the next example fail
            for wire in self.wires:
                wire.close()
            wait_for(lambda: not self.server.connections)
            with closing(sqlite3.connect(self.folder / "streams.sqlite3")) as store, store:
                store.execute("DELETE FROM streams")

    def finish(self) -> None:
        """Close all streams; then the server has all slots, all memory and all of its store again."""
        for stream in list(self.streams):
            if stream.wire is None:
                if not self.has_place(stream.model):
                    self.closed(next(other for other in self.connected if other.model == stream.model))
                self.restored(stream)
        for stream in list(self.streams):
            self.closed(stream)
        service = self.server.service
        wait_for(lambda: not self.server.connections)
        assert not service._live
        assert not service._continuing
        for model in service.models.values():
            assert self.server.count("streamdrnn_streams", model=model.name) == 0
            assert model.engine.due(time.monotonic()) is None
            assert model.engine.streams == 0
            assert len(model.engine._free) == LIMITS.streams
        with closing(sqlite3.connect(self.folder / "streams.sqlite3")) as store:
            assert store.execute("SELECT count(*) FROM streams WHERE seq != ?", (CLOSED,)).fetchone() == (0,)

    def connect(self) -> Wire:
        self.wires.append(Wire(self.server.url))
        return self.wires[-1]

    def has_place(self, model: str) -> bool:
        """Whether one more stream fits, when the server has noticed who left."""
        there = sum(stream.model == model for stream in self.connected)
        wait_for(lambda: self.server.count("streamdrnn_streams", model=model) == there)
        return there < LIMITS.streams

    def make_room(self, stream: Stream) -> None:
        while len(stream.sent) + 1 - stream.ack > LIMITS.window:
            stream.hear()

    def say(self, stream: Stream, x: Optional[np.ndarray]) -> None:
        self.make_room(stream)
        stream.sent.append(x)
        stream.send(len(stream.sent))

    def restored(self, stream: Stream) -> None:
        stream.wire = self.connect()
        opened = stream.wire.restore(stream.id, stream.ack)
        assert opened["type"] == "opened", opened
        assert (opened["model"], opened["format"]) == (stream.model, stream.format)
        heard = opened["seq"]
        assert stream.ack <= heard <= len(stream.sent)
        while stream.ack < heard:
            assert not stream.hear(), "a result that was missed"
        for seq in range(heard + 1, len(stream.sent) + 1):
            stream.send(seq)

    def closed(self, stream: Stream) -> None:
        assert stream.wire is not None
        stream.wire.say(type="close")
        assert stream.expect("closed")["seq"] == len(stream.sent)
        with pytest.raises(ConnectionClosed) as end:
            stream.wire.message()
        assert end.value.rcvd is not None
        assert end.value.rcvd.code == 1000
        stream.wire.close()
        self.streams.remove(stream)
        with self.connect() as wire:
            wire.say(type="restore", version=1, stream=stream.id, ack=stream.ack)
            refused(wire, Code.UNKNOWN_STREAM)
        self.compare(stream)

    def compare(self, stream: Stream) -> None:
        """Each part between two resets with its whole sequence offline."""
        assert len(stream.results) == len(stream.sent)
        ends = [i for i, x in enumerate(stream.sent) if x is None]
        for start, end in zip([0, *(i + 1 for i in ends)], [*ends, len(stream.sent)], strict=True):
            parts = [x for x in stream.sent[start:end] if x is not None]
            if not parts:
                continue
            x = np.concatenate(parts).astype(np.float32) / np.float32(32768 if stream.format == "pcm16" else 1)
            path = self.folder / f"{stream.model}.safetensors"
            assert_same(np.concatenate(stream.results[start:end]), offline(path, x))
        for i in ends:
            assert stream.results[i].size == 0


def pick(streams: list[Stream], which: int) -> Stream:
    return streams[which % len(streams)]


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[type[Streams]]:
    folder = tmp_path_factory.mktemp("fuzz")
    models = [tagger_file(folder), audio_file(folder)]
    with running(models, folder / "streams.sqlite3", LIMITS, snapshot_seconds=0.03) as server:
        yield type("Streams", (Streams,), {"server": server, "folder": folder})


def test_whatever_clients_do(machine: type[Streams]) -> None:
    run_state_machine_as_test(machine, settings=settings(examples(15), stateful_step_count=20))
