"""Streams over real sockets: what they answer, what is refused, and that nobody suffers from anybody else."""

import json
import socket
import sqlite3
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from typing import Any, Union

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamdrnn import StreamingDRNN, load_model
from streamdrnn.apps.serving import keeper, service, sqlite_store
from streamdrnn.apps.serving.engine import Result
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.session import Session
from streamdrnn.apps.serving.sqlite_store import SQLiteStore
from streamdrnn.apps.serving.store import Saving
from streamdrnn.client.protocol import Code, Input, pack_input
from tests.serving.servers import Running, Wire, assert_same, inputs, offline, running, tagger_file
from tests.waiting import PATIENCE, wait_for

LIMITS = Limits(streams=4, frame_steps=20, rate=100.0, burst_seconds=10.0, window=4, idle_seconds=30.0)


@pytest.fixture(scope="module")
def server(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(models, tmp_path_factory.mktemp("store") / "streams.sqlite3", LIMITS) as server:
        yield server


@pytest.fixture
def wire(server: Running) -> Iterator[Wire]:
    with Wire(server.url) as wire:
        yield wire


def refused(wire: Wire, code: int, what: str) -> None:
    """After results at most, one error says what, and the connection is closed with its code; nothing else comes."""
    message = wire.message()
    while isinstance(message, bytes):
        message = wire.message()
    error = json.loads(message)
    assert error["type"] == "error"
    assert error["code"] == code, error
    assert what in error["message"], error
    with pytest.raises(ConnectionClosed) as closed:
        wire.message()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == code
    assert closed.value.rcvd.reason == error["message"].encode(errors="replace")[:120].decode()


def get(url: str, **headers: Union[str, bytes]) -> tuple[int, bytes]:
    try:
        with urllib.request.urlopen(
            urllib.request.Request(url, headers=dict[str, Any](headers)), timeout=PATIENCE
        ) as response:
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def test_messages_get_one_result_each_with_the_bits_of_the_whole(wire: Wire, models: list[Path]) -> None:
    opened = wire.open()
    assert opened["type"] == "opened"
    assert (opened["seq"], opened["window"], opened["max_frame"]) == (0, 4, 20)
    assert (opened["input_size"], opened["output_size"]) == (3, 2)
    assert len(opened["stream"]) >= 43  # 256 random bits
    x, rows, ack = inputs(50), [], 0
    for seq, part in enumerate([x[:1], x[1:1], x[1:20], x[20:40], x[40:]], 1):
        wire.send(seq, part, ack)
        ack, y = wire.result()
        assert ack == seq
        assert len(y) == len(part)
        rows.append(y)
    assert_same(np.concatenate(rows), offline(models[0], x))


@pytest.mark.parametrize("format", ["float32", "pcm16"])
def test_samples_in_any_messages(wire: Wire, models: list[Path], format: str) -> None:
    assert wire.open("audio", format)["sample_rate"] == 8000
    samples = np.random.default_rng(1).integers(-32768, 32767, 203).astype("<i2")
    as_floats = samples.astype(np.float32) / 32768
    given = samples if format == "pcm16" else as_floats
    rows = []
    for seq, part in enumerate(np.split(given, [3, 3, 10, 80, 150]), 1):
        wire.send(seq, part, seq - 1)
        rows.append(wire.result()[1])
    assert_same(np.concatenate(rows), offline(models[1], as_floats))


def test_reset_begins_anew_in_its_turn(wire: Wire, models: list[Path]) -> None:
    wire.open()
    x = inputs(8)
    wire.send(1, x)
    wire.say(type="reset", seq=2, ack=0)
    wire.send(3, x)
    answers = [wire.result() for _ in range(3)]
    assert [seq for seq, _ in answers] == [1, 2, 3]
    assert answers[1][1].size == 0
    assert_same(answers[0][1], offline(models[0], x))
    assert_same(answers[2][1], answers[0][1])


def test_a_closed_stream_is_forgotten(server: Running, wire: Wire) -> None:
    stream = wire.open()["stream"]
    wire.send(1, inputs(2))
    wire.say(type="close")
    assert wire.result()[0] == 1
    assert wire.hear() == {"type": "closed", "seq": 1}
    with pytest.raises(ConnectionClosed) as closed:
        wire.message()
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1000
    with Wire(server.url) as again:
        again.say(type="restore", version=1, stream=stream, ack=1)
        refused(again, Code.UNKNOWN_STREAM, "there is none of this id")


def test_what_a_lost_client_did_not_get_is_kept_for_it(server: Running, models: list[Path]) -> None:
    x = inputs(6)
    with Wire(server.url) as wire:
        stream = wire.open()["stream"]
        for seq in (1, 2, 3):
            wire.send(seq, x[seq - 1 : seq])
        wire.say(type="snapshot")
        first = wire.result()[1]
    with Wire(server.url) as wire:
        assert wire.restore(stream, ack=1)["seq"] == 3
        kept = [wire.result(), wire.result()]
        wire.send(4, x[3:], ack=3)
        rest = wire.result()
    assert [seq for seq, _ in [*kept, rest]] == [2, 3, 4]
    assert_same(np.concatenate([first, *(y for _, y in kept), rest[1]]), offline(models[0], x))


def test_who_restores_a_stream_takes_it_over(server: Running, wire: Wire, models: list[Path]) -> None:
    x = inputs(9)
    stream = wire.open()["stream"]
    wire.send(1, x[:4])
    assert wire.result()[0] == 1
    with Wire(server.url) as other:
        assert other.restore(stream, ack=1)["seq"] == 1
        refused(wire, Code.REPLACED, "continued by another connection")
        other.send(2, x[4:], ack=1)
        assert_same(other.result()[1], offline(models[0], x)[4:])


def test_of_those_who_restore_a_stream_at_the_same_time_one_has_it(server: Running, models: list[Path]) -> None:
    x = inputs(9)
    with Wire(server.url) as first:
        stream = first.open()["stream"]
        first.send(1, x[:4])
        assert first.result()[0] == 1
    wires = [Wire(server.url) for _ in range(8)]
    try:
        for wire in wires:
            wire.say(type="restore", version=1, stream=stream, ack=1)
        assert all(wire.hear()["type"] == "opened" for wire in wires)
        owners = list[Wire]()
        for wire in wires:
            try:
                wire.send(2, x[4:], ack=1)
                result = wire.result()[1]
            except (AssertionError, ConnectionClosed):  # the stream was continued elsewhere
                continue
            owners.append(wire)
            assert_same(result, offline(models[0], x)[4:])
        assert len(owners) == 1
        assert server.count("streamdrnn_streams", model="tagger") == 1
    finally:
        for wire in wires:
            wire.close()
    server.wait_until_let_go()


def opened_first(**fields: Any) -> Callable[[Wire], None]:
    def say(wire: Wire) -> None:
        assert wire.open()["type"] == "opened"
        wire.say(**fields)

    return say


def sent(seq: int, x: np.ndarray, ack: int = 0) -> Callable[[Wire], None]:
    def send(wire: Wire) -> None:
        assert wire.open()["type"] == "opened"
        wire.send(seq, x, ack)

    return send


ONE = np.zeros((1, 3), np.float32)
WRONG: list[tuple[str, Callable[[Wire], None], int, str]] = [
    ("no JSON", lambda w: w.socket.send("{"), Code.BAD_MESSAGE, "expected a JSON object"),
    ("deep JSON", lambda w: w.socket.send("[" * 4000), Code.BAD_MESSAGE, "expected a JSON object"),
    ("no object", lambda w: w.socket.send("[1]"), Code.BAD_MESSAGE, "expected a JSON object with a type"),
    ("no type", lambda w: w.say(version=1), Code.BAD_MESSAGE, "with a type"),
    ("long text", lambda w: w.socket.send(" " * 4097), Code.FRAME_TOO_LARGE, "4096 characters or fewer"),
    ("numbers first", lambda w: w.socket.send(b"123"), Code.BAD_MESSAGE, "expected open or restore first"),
    ("close first", lambda w: w.say(type="close", version=1), Code.BAD_MESSAGE, "open or restore first, got 'close'"),
    ("no version", lambda w: w.say(type="open"), Code.BAD_MESSAGE, "version: expected 1, got None"),
    ("half a character", lambda w: w.say(type="open", version="\ud800"), Code.BAD_MESSAGE, "version: expected 1, got"),
    ("version 2", lambda w: w.say(type="open", version=2), Code.BAD_MESSAGE, "version: expected 1, got 2"),
    ("no model", lambda w: w.say(type="open", version=1), Code.BAD_MESSAGE, "model: expected a string"),
    (
        "another model",
        lambda w: w.say(type="open", version=1, model="../x", format="features"),
        Code.UNKNOWN_MODEL,
        "model: expected one of ['audio', 'tagger'], got '../x'",
    ),
    (
        "another format",
        lambda w: w.say(type="open", version=1, model="tagger", format="pcm16"),
        Code.BAD_MESSAGE,
        "format: expected one of ['features'], got 'pcm16'",
    ),
    (
        "a guessed id",
        lambda w: w.say(type="restore", version=1, stream="x", ack=0),
        Code.UNKNOWN_STREAM,
        "there is none of this id",
    ),
    (
        "no ack",
        lambda w: w.say(type="restore", version=1, stream="x", ack=-1),
        Code.BAD_MESSAGE,
        "ack: expected the number",
    ),
    ("another type", opened_first(type="fly"), Code.BAD_MESSAGE, "expected reset, snapshot or close, got 'fly'"),
    ("opened twice", opened_first(type="open"), Code.BAD_MESSAGE, "got 'open'"),
    ("reset of a word", opened_first(type="reset", seq="1", ack=0), Code.BAD_MESSAGE, "expected integers seq and ack"),
    ("reset later", opened_first(type="reset", seq=7, ack=0), Code.BAD_SEQUENCE, "seq: expected 1, got 7"),
    ("a gap", sent(2, ONE), Code.BAD_SEQUENCE, "seq: expected 1, got 2"),
    ("half a number", sent(1, np.zeros(7, np.uint8)), Code.BAD_MESSAGE, "a multiple of 12 bytes"),
    ("half a step", sent(1, np.zeros(4, np.float32)), Code.BAD_MESSAGE, "a multiple of 12 bytes"),
    ("long", sent(1, np.zeros((21, 3), np.float32)), Code.FRAME_TOO_LARGE, "20 steps or fewer, got 21"),
    ("NaN", sent(1, np.full((1, 3), np.nan, np.float32)), Code.BAD_VALUE, "expected finite values"),
    ("infinity", sent(1, np.full((1, 3), np.inf, np.float32)), Code.BAD_VALUE, "expected finite values"),
]


@pytest.mark.parametrize(("say", "code", "what"), [case[1:] for case in WRONG], ids=[case[0] for case in WRONG])
def test_what_is_wrong_is_refused_once_and_the_others_go_on(
    server: Running, wire: Wire, models: list[Path], say: Callable[[Wire], None], code: int, what: str
) -> None:
    x = inputs(4)
    with Wire(server.url) as other:
        other.open()
        other.send(1, x[:2])
        say(wire)
        refused(wire, code, what)
        other.send(2, x[2:])
        assert_same(np.concatenate([other.result()[1], other.result()[1]]), offline(models[0], x))


def test_a_message_beyond_all_sizes_is_not_even_read(server: Running, wire: Wire) -> None:
    wire.open()
    with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012 (whichever notices)
        wire.socket.send(bytes(10_000_000))
        wire.message()
    assert closed.value.rcvd is None or closed.value.rcvd.code == 1009
    assert get(f"{server.http}/readyz")[0] == 200


def test_the_window_is_the_most_that_waits(wire: Wire) -> None:
    wire.open()
    for seq in range(1, 6):
        wire.send(seq, ONE)
    refused(wire, Code.BAD_SEQUENCE, "at most 4 beyond the last result, got 5")


def test_an_ack_of_what_there_is_not_opens_no_window(wire: Wire) -> None:
    wire.open()
    wire.send(1, ONE)
    assert wire.result()[0] == 1
    for seq in range(2, 100):
        wire.send(seq, ONE, ack=2**62)
    answers = list[int]()
    with pytest.raises(ConnectionClosed) as closed:  # noqa: PT012
        while True:
            message = wire.message()
            answers.append(len(message))
    assert closed.value.rcvd is not None
    # Unless each was answered before the next one came.
    assert len(answers) == 98 or closed.value.rcvd.code == Code.BAD_SEQUENCE


def test_faster_than_the_rate_is_refused(wire: Wire) -> None:
    """100 steps may come at once, then 100 a second."""
    assert wire.open()["burst"] == pytest.approx(100, abs=1)
    full = np.zeros((20, 3), np.float32)
    started, seq = time.monotonic(), 0
    message: Union[str, bytes] = b""
    while not isinstance(message, str) or "error" not in message:
        seq += 1
        wire.send(seq, full, seq - 1)
        message = wire.message()
        while isinstance(message, str) and "snapshot" in message:
            message = wire.message()
    assert 100 / 20 < seq <= (100 + 100 * (time.monotonic() - started)) / 20 + 1
    assert json.loads(message)["code"] == Code.TOO_FAST
    assert "expected at most 100 steps per second, try again in 0." in json.loads(message)["message"]


def test_a_stream_goes_on_where_its_weights_are_rounded_in_the_same_way(models: list[Path], tmp_path: Path) -> None:
    """Its results would else be neither those of the one nor those of the other."""
    x = inputs(8)
    with running(models, tmp_path / "s", weights="int8") as server, Wire(server.url) as wire:
        stream = wire.open()["stream"]
        wire.send(1, x[:4])
        first = wire.result()[1]
    with running(models, tmp_path / "s") as server, Wire(server.url) as wire:
        wire.say(type="restore", version=1, stream=stream, ack=1)
        refused(wire, Code.UNKNOWN_MODEL, "its model is not served here")
    with running(models, tmp_path / "s", weights="int8") as server, Wire(server.url) as wire:
        assert wire.restore(stream, 1)["seq"] == 1
        wire.send(2, x[4:], 1)
        whole = StreamingDRNN(load_model(models[0]), weights="int8").push(torch.from_numpy(x)[:, None])[:, 0].numpy()
        assert_same(np.concatenate([first, wire.result()[1]]), whole)


def test_what_follows_a_message_without_result_is_not_heard(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However close it follows, it is not in the state that is saved."""
    x, bad = inputs(12), np.full((1, 3), 3e38, np.float32)
    answered = Session.answered

    def answered_and_followed(session: Session, seq: int, result: Result) -> None:
        answered(session, seq, result)
        if result.problem:
            session.hear_input(pack_input(Input(seq + 1, 1, x[4:8].tobytes())))

    monkeypatch.setattr(Session, "answered", answered_and_followed)
    with running(models, tmp_path / "s") as server:
        for model in server.service.models.values():
            monkeypatch.setattr(model.engine, "_push", refusing_loud(model.engine._push))
        with Wire(server.url) as wire:
            stream = wire.open()["stream"]
            wire.send(1, x[:4])
            first = wire.result()[1]
            wire.send(2, bad, 1)
            refused(wire, Code.BAD_VALUE, "message 2: too loud")
        with Wire(server.url) as wire:
            assert wire.restore(stream, 1)["seq"] == 1
            wire.send(2, x[4:], 1)
            assert_same(np.concatenate([first, wire.result()[1]]), offline(models[0], x))


def test_what_waits_behind_a_message_without_result_is_in_no_pass(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the next pass is due before anybody has been told that there is no result."""
    x, bad = inputs(12), np.full((1, 3), 3e38, np.float32)
    with running(models, tmp_path / "s", max_wait=0.0) as server:
        for model in server.service.models.values():
            monkeypatch.setattr(model.engine, "_push", taking_its_time(refusing_loud(model.engine._push)))
        with Wire(server.url) as wire:
            stream = wire.open()["stream"]
            wire.send(1, x[:4])
            first = wire.result()[1]
            wire.send(2, bad, 1)
            wire.send(3, x[4:8], 1)
            refused(wire, Code.BAD_VALUE, "message 2: too loud")
        with Wire(server.url) as wire:
            assert wire.restore(stream, 1)["seq"] == 1
            wire.send(2, x[4:], 1)
            assert_same(np.concatenate([first, wire.result()[1]]), offline(models[0], x))


def taking_its_time(push: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def take(*arguments: Any) -> np.ndarray:
        time.sleep(0.1)
        return push(*arguments)

    return take


def refusing_loud(push: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def refuse(chunk: np.ndarray, lengths: list[int], slots: list[int]) -> np.ndarray:
        if np.abs(chunk).max(initial=0) > 1e38:
            raise ValueError("too loud")
        return push(chunk, lengths, slots)

    return refuse


def test_the_budget_belongs_to_the_stream(models: list[Path], tmp_path: Path) -> None:
    """A new connection, here or on another server, has what was left; so it brings no further burst."""
    limits = Limits(streams=1, frame_steps=20, rate=0.01, burst_seconds=100_000.0)
    full = np.zeros((20, 3), np.float32)
    with running(models, tmp_path / "s", limits) as server, running(models, tmp_path / "s", limits) as another:
        with Wire(server.url) as wire:
            stream = wire.open()["stream"]
            for seq in range(1, 4):
                wire.send(seq, full, seq - 1)
                assert wire.result()[0] == seq
        server.wait_until_let_go()
        for seq, one in ((4, server), (5, another)):
            with Wire(one.url) as wire:
                opened = wire.restore(stream, seq - 1)
                assert opened["burst"] == pytest.approx(100 - 20 * (seq - 1), abs=1)
                wire.send(seq, full, seq - 1)
                assert wire.result()[0] == seq
            one.wait_until_let_go()
        with Wire(server.url) as wire:
            wire.restore(stream, 5)
            wire.send(6, full, 5)
            refused(wire, Code.TOO_FAST, "expected at most 0.01 steps per second")


def test_results_that_wait_for_their_client_are_bounded(tmp_path: Path) -> None:
    wide = tagger_file(tmp_path, outputs=400)
    with running([wide], tmp_path / "s", Limits(streams=1, unread_bytes=2**20)) as server:
        with Wire(server.url) as wire:
            opened = wire.open()
            assert (opened["window"], opened["max_frame"]) == (32, 20)
            for seq in range(1, 33):
                wire.send(seq, np.zeros((20, 3), np.float32))
            for seq in range(1, 33):
                assert wire.result(400)[0] == seq
            wire.send(33, np.zeros((21, 3), np.float32), 32)
            refused(wire, Code.FRAME_TOO_LARGE, "20 steps or fewer, got 21")
        claimed = server.service._keeper._store.claim(opened["stream"])
        assert claimed is not None
        assert len(claimed.snapshot) < 2**20 + 10_000


def test_streams_are_as_many_as_allowed_and_places_come_back(server: Running) -> None:
    wires = [Wire(server.url) for _ in range(5)]
    try:
        for wire in wires[:4]:
            assert wire.open()["type"] == "opened"
        wires[4].say(type="open", version=1, model="tagger", format="features")
        refused(wires[4], Code.TOO_MANY_STREAMS, "all 4 streams of tagger are in use")
        wires[0].say(type="close")
        assert wires[0].hear()["type"] == "closed"
        wait_for(lambda: server.count("streamdrnn_streams", model="tagger") == 3)
        with Wire(server.url) as late:
            assert late.open()["type"] == "opened"
    finally:
        for wire in wires:
            wire.close()
    server.wait_until_let_go()


def test_silence_is_ended_and_can_be_continued(models: list[Path], tmp_path: Path) -> None:
    x = inputs(5)
    with running(models, tmp_path / "s") as server:
        patient = server.service.limits
        server.service.limits = replace(patient, idle_seconds=0.3, open_seconds=0.3)
        with Wire(server.url) as mute:
            refused(mute, Code.IDLE, "expected open or restore within 0.3 s")
        server.service.limits = patient
        with Wire(server.url) as wire:
            stream = wire.open()["stream"]
            wire.send(1, x[:3])
            first = wire.result()[1]
            server.service.limits = replace(patient, idle_seconds=0.3)
            error = wire.hear()
            while error["type"] == "snapshot":
                error = wire.hear()
            assert (error["code"], error["message"]) == (Code.IDLE, "nothing came for 0.3 s")
        server.service.limits = patient
        with Wire(server.url) as wire:
            assert wire.restore(stream, 1)["seq"] == 1
            wire.send(2, x[3:], 1)
            assert_same(np.concatenate([first, wire.result()[1]]), offline(models[0], x))


def test_tokens(models: list[Path], tmp_path: Path) -> None:
    right = ["an open secret, said", "another of the secrets", "a sécret of letters"]
    with running(models, tmp_path / "s", tokens=right) as server:
        for fields in ({}, {"token": "wrong"}, {"token": 5}, {"token": right[0][:-1]}, {"token": "\ud800"}):
            with Wire(server.url) as wire:
                wire.say(type="open", version=1, model="tagger", format="features", **fields)
                refused(wire, Code.UNAUTHORISED, "token: expected one of this server's")
        for token in right:
            with Wire(server.url) as wire:
                assert wire.open(token=token)["type"] == "opened"
        for page in ("metrics", "v1/models"):
            assert get(f"{server.http}/{page}")[0] == 401
            assert get(f"{server.http}/{page}", Authorization=f"Basic {right[0]}")[0] == 401
            assert get(f"{server.http}/{page}", Authorization=f"Bearer {right[1]}")[0] == 200
            assert get(f"{server.http}/{page}", Authorization=f"Bearer {right[2]}".encode())[0] == 200
        assert get(f"{server.http}/healthz")[0] == 200


def test_web_pages_connect_only_if_they_are_allowed(models: list[Path], tmp_path: Path) -> None:
    with running(models, tmp_path / "s", origins=["https://good.example"]) as server:
        with pytest.raises(InvalidStatus) as refusal:
            Wire(server.url, origin="https://bad.example")
        assert refusal.value.response.status_code == 403
        with Wire(server.url, origin="https://good.example") as wire:
            assert wire.open()["type"] == "opened"


def test_a_client_that_does_not_read_delays_nobody(tmp_path: Path) -> None:
    """Its results are megabytes, more than sockets hold."""
    wide = tagger_file(tmp_path, outputs=4000)
    x = inputs(300)
    with (
        running([wide], tmp_path / "s", Limits(streams=3, unread_bytes=10**9)) as server,
        Wire(server.url, max_queue=1) as slow,
        Wire(server.url) as quick,
    ):
        slow.open()
        quick.open()
        for seq in range(1, 33):
            slow.send(seq, np.zeros((100, 3), np.float32))
        rows = []
        for seq in range(1, 301):
            quick.send(seq, x[seq - 1 : seq], seq - 1)
            rows.append(quick.result(4000)[1])
        assert_same(np.concatenate(rows), offline(wide, x))
        # Later the slow one gets all that it asked for, and its stream is as good as any.
        for seq in range(1, 33):
            assert slow.result(4000)[0] == seq


def test_streams_at_once_share_passes_and_no_numbers(models: list[Path], tmp_path: Path) -> None:
    count, length = 12, 120
    streams = [inputs(length, seed) for seed in range(count)]
    got: dict[int, np.ndarray] = {}
    all_open = threading.Barrier(count)

    def live(url: str, k: int) -> None:
        rng = np.random.default_rng(k)
        with Wire(url) as wire:
            wire.open()
            all_open.wait(PATIENCE)
            rows, at, seq = [], 0, 0
            while at < length:
                n, seq = int(rng.integers(0, 9)), seq + 1
                wire.send(seq, streams[k][at : at + n], seq - 1)
                rows.append(wire.result()[1])
                at += n
            got[k] = np.concatenate(rows)

    with running(models, tmp_path / "s", Limits(streams=count), max_wait=0.5) as server:
        threads = [threading.Thread(target=live, args=(server.url, k)) for k in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        passes = server.count("streamdrnn_batch_streams_count", model="tagger")
        messages = server.count("streamdrnn_batch_streams_sum", model="tagger")
        assert server.count("streamdrnn_steps_total", model="tagger") == count * length
    assert messages / passes > 2
    for k, x in enumerate(streams):
        assert_same(got[k], offline(models[0], x))


def test_health_models_metrics_and_openapi(server: Running, wire: Wire) -> None:
    stream = wire.open()["stream"]
    assert json.loads(get(f"{server.http}/healthz")[1]) == {"status": "ok"}
    assert json.loads(get(f"{server.http}/readyz")[1]) == {"status": "ready"}
    for page in ("healthz", "readyz"):
        request = urllib.request.Request(f"{server.http}/{page}", method="HEAD")
        with urllib.request.urlopen(request, timeout=PATIENCE) as response:
            assert response.status == 200
    assert get(f"{server.http}/docs")[0] == get(f"{server.http}/redoc")[0] == 404  # they load scripts of others
    described = json.loads(get(f"{server.http}/v1/models")[1])
    assert {model["model"]: model["formats"] for model in described} == {
        "tagger": ["features"],
        "audio": ["float32", "pcm16"],
    }
    metrics = get(f"{server.http}/metrics")[1].decode()
    assert 'streamdrnn_streams{model="tagger"} 1.0' in metrics
    assert stream not in metrics
    for name in ("capacity", "waiting", "pass_seconds", "store_bytes", "store_seconds"):
        assert f"streamdrnn_{name}" in metrics
    assert "process_resident_memory_bytes" in metrics
    paths = json.loads(get(f"{server.http}/openapi.json")[1])["paths"]
    assert {"/healthz", "/readyz", "/metrics", "/v1/models"} <= paths.keys()


def test_a_connection_that_is_cut_frees_its_place(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.send(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpg")
    wire = Wire(server.url)
    wire.open()
    wire.socket.socket.shutdown(socket.SHUT_RDWR)
    server.wait_until_let_go()
    wire.close()


def test_snapshots_on_request_are_paid_for_as_the_largest_messages(models: list[Path], tmp_path: Path) -> None:
    limits = Limits(streams=1, frame_steps=20, rate=0.01, burst_seconds=100_000.0)  # 100 steps, and hardly any later
    with running(models, tmp_path / "s", limits) as server, Wire(server.url) as wire:
        wire.open()
        for _ in range(5):
            wire.say(type="snapshot")
            assert wire.hear() == {"type": "snapshot", "seq": 0}
        wire.say(type="snapshot")
        refused(wire, Code.TOO_FAST, "expected at most 0.01 steps per second")


def test_a_stream_is_forgotten_before_its_client_hears_that_it_is_closed(server: Running, wire: Wire) -> None:
    stream = wire.open()["stream"]
    wire.send(1, inputs(2))
    assert wire.result()[0] == 1
    wire.say(type="close")
    assert wire.hear()["type"] == "closed"
    assert server.service._keeper._store.claim(stream) is None


def test_a_snapshot_that_was_tampered_with_is_refused_and_costs_no_place(models: list[Path], tmp_path: Path) -> None:
    with running(models, tmp_path / "s", Limits(streams=1)) as server:
        with Wire(server.url) as wire:
            stream = wire.open()["stream"]
            wire.send(1, inputs(3))
            wire.result()
        server.wait_until_let_go()
        store = server.service._keeper._store
        good = store.claim(stream)
        assert good is not None
        header, _, rest = good.snapshot.partition(b"\n")
        fields = json.loads(header)
        claim = good.claim
        for wrong in (
            b"x",
            b"[" * 60_000 + b"\n",
            b'{"version": 1}\n',
            json.dumps(fields | {"format": "pcm16"}).encode() + b"\n" + rest,
            json.dumps(fields | {"seq": 2**63}).encode() + b"\n" + rest,
            json.dumps(fields | {"model": ["x"]}).encode() + b"\n" + rest,
            good.snapshot[:-4] + b"\0\0\xc0\x7f",
        ):
            assert store.save([Saving(stream, claim, wrong)]) == [True]
            with Wire(server.url) as wire:
                wire.say(type="restore", version=1, stream=stream, ack=1)
                refused(wire, Code.UNKNOWN_STREAM, "stream: cannot be continued: ")
            claim += 1
        assert store.save([Saving(stream, claim, good.snapshot)]) == [True]
        with Wire(server.url) as wire:
            assert wire.restore(stream, 1)["seq"] == 1


def test_a_stream_that_the_store_lost_lives_on_and_is_kept_again(models: list[Path], tmp_path: Path) -> None:
    x = inputs(9)
    with running(models, tmp_path / "s", snapshot_seconds=0.05) as server:
        with Wire(server.url) as wire:
            stream = wire.open()["stream"]
            for file in tmp_path.glob("s*"):
                file.unlink()
            wire.send(1, x[:5])
            first = wire.result()[1]
            assert wire.hear() == {"type": "snapshot", "seq": 1}
            for file in tmp_path.glob("s*"):
                file.unlink()
        server.wait_until_let_go()
        with Wire(server.url) as wire:
            assert wire.restore(stream, 1)["seq"] == 1
            wire.send(2, x[5:], 1)
            assert_same(np.concatenate([first, wire.result()[1]]), offline(models[0], x))


def locked(store: Path) -> sqlite3.Connection:
    """Somebody else who writes and writes."""
    db = sqlite3.connect(store, isolation_level=None, check_same_thread=False)
    db.execute("BEGIN EXCLUSIVE")
    return db


def test_a_store_that_does_not_work_makes_the_server_not_ready_and_says_why(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """To anybody that it is the store, and to the log alone which one and why."""
    monkeypatch.setattr(sqlite_store, "_LOCKED_SECONDS", 0.1)
    monkeypatch.setattr(keeper, "_CHECK_SECONDS", 0.05)
    with running(models, tmp_path / "s", Limits(streams=1)) as server:
        assert get(f"{server.http}/readyz")[0] == 200
        with closing(locked(tmp_path / "s")), Wire(server.url) as wire:
            wait_for(lambda: get(f"{server.http}/readyz")[0] == 503)
            said = json.loads(get(f"{server.http}/readyz")[1])["detail"]
            assert said == "the store does not work; the server's log says why"
            assert "database is locked" in caplog.text
            wire.say(type="open", version=1, model="tagger", format="features")
            refused(wire, Code.STORE_FAILED, "the server could not save the stream")
        wait_for(lambda: get(f"{server.http}/readyz")[0] == 200)
        with Wire(server.url) as one, Wire(server.url) as two:
            one.open()
            assert get(f"{server.http}/readyz")[0] == 200
            two.open("audio", "pcm16")
            assert b"all 1 streams of each model are in use" in get(f"{server.http}/readyz")[1]


def test_a_full_store_refuses_new_streams_and_serves_those_there_are(models: list[Path], tmp_path: Path) -> None:
    x = inputs(9)
    with running(models, tmp_path / "s", snapshot_seconds=0.05) as server, Wire(server.url) as wire:
        stream = wire.open()["stream"]
        store = server.service._keeper._store
        assert isinstance(store, SQLiteStore)
        store._most_bytes = 8192
        with Wire(server.url) as late:
            late.say(type="open", version=1, model="tagger", format="features")
            refused(late, Code.TOO_MANY_STREAMS, "the server's store is full")
        said = json.loads(get(f"{server.http}/readyz")[1])["detail"]
        assert said == "the store has no room for further streams"
        store._most_bytes = 2**20
        wire.send(1, x)
        assert_same(wire.result()[1], offline(models[0], x))
        wire.close()
        with Wire(server.url) as again:
            assert again.restore(stream, 1)["seq"] == 1


def test_a_server_leaves_in_time_whatever_its_store_does(
    models: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    count = 12
    monkeypatch.setattr(keeper, "_TOGETHER", 1)
    monkeypatch.setattr(sqlite_store, "_LOCKED_SECONDS", 1.0)
    monkeypatch.setattr(service, "DRAIN_SECONDS", 1.5)
    with running(models, tmp_path / "s", Limits(streams=count)) as server, ExitStack() as held:
        for _ in range(count):
            wire = held.enter_context(Wire(server.url))
            wire.open()
            wire.send(1, ONE)
            assert wire.result()[0] == 1
        with closing(locked(tmp_path / "s")):
            started = time.monotonic()
            server.stop()
            assert time.monotonic() - started < 6  # and not a second for each


def test_who_opens_streams_and_says_nothing_hardly_fills_the_store(server: Running) -> None:
    with Wire(server.url) as wire:
        stream = wire.open()["stream"]
    server.wait_until_let_go()
    claimed = server.service._keeper._store.claim(stream)
    assert claimed is not None
    assert len(claimed.snapshot) < 300  # no state
    with Wire(server.url) as wire:
        assert wire.restore(stream, 0)["seq"] == 0
        wire.say(type="close")
        assert wire.hear()["type"] == "closed"
