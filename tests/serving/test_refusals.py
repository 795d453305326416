"""What a client may not do is refused, once and in words, and nobody else suffers from it."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Union

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from streamdrnn.apps.serving.engine import Result
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.apps.serving.session import Session
from streamdrnn.client.protocol import Code, Input, pack_input
from tests.serving.servers import Running, Wire, assert_same, get, inputs, offline, refused, running, tagger_file
from tests.waiting import wait_for


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


def test_time_away_is_earned_as_time_on_a_server_is(models: list[Path], tmp_path: Path) -> None:
    """Else who is told to try again later would be told so for ever."""
    limits = Limits(streams=1, frame_steps=20, rate=50.0, burst_seconds=100.0)
    full = np.zeros((20, 3), np.float32)
    with running(models, tmp_path / "s", limits) as server:
        with Wire(server.url) as wire:
            opened = wire.open()
            fits = int(opened["burst"]) // 20
            for seq in range(1, fits + 1):
                wire.send(seq, full, seq - 1)
                assert wire.result()[0] == seq
            for seq in range(fits + 1, fits + 4):
                wire.send(seq, full, fits)
            refused(wire, Code.TOO_FAST, "try again in")
        server.wait_until_let_go()
        time.sleep(0.5)
        with Wire(server.url) as wire:
            assert wire.restore(opened["stream"], fits)["burst"] > 0.5 * 50
            wire.send(fits + 1, full, fits)
            assert wire.result()[0] == fits + 1


def test_a_stream_that_is_continued_before_it_is_saved_brings_no_further_burst(
    models: list[Path], tmp_path: Path
) -> None:
    """Neither server can save what was spent there: each time the other one has the stream by then."""
    limits = Limits(streams=1, frame_steps=20, rate=0.01, burst_seconds=100_000.0)
    full, spent = np.zeros((20, 3), np.float32), list[int]()
    with (
        running(models, tmp_path / "s", limits, snapshot_seconds=1000.0) as server,
        running(models, tmp_path / "s", limits, snapshot_seconds=1000.0) as another,
        ExitStack() as held,
    ):
        wire = held.enter_context(Wire(server.url))
        opened = wire.open()
        for hop in range(8):
            steps = int(opened["burst"]) // 20
            for seq in range(1, steps + 1):
                wire.send(seq, full, seq - 1)
                assert wire.result()[0] == seq
            spent.append(20 * steps)
            wire = held.enter_context(Wire((another, server)[hop % 2].url))
            opened = wire.restore(opened["stream"], 0)
            assert opened["seq"] == 0
    assert spent == [100, 40, 20, 0, 0, 0, 0, 0]


def test_who_continues_after_a_servers_death_keeps_half_of_its_budget(models: list[Path], tmp_path: Path) -> None:
    limits = Limits(streams=1, frame_steps=20, rate=0.01, burst_seconds=100_000.0)
    full = np.zeros((20, 3), np.float32)
    with (
        running(models, tmp_path / "s", limits) as server,
        running(models, tmp_path / "s", limits) as another,
        Wire(server.url) as wire,  # that it saves no more is all that matters of a death
    ):
        stream = wire.open()["stream"]
        wire.send(1, full)
        assert wire.result()[0] == 1
        wire.say(type="snapshot")
        assert wire.hear() == {"type": "snapshot", "seq": 1}
        for _ in range(2):
            with Wire(another.url) as other:
                assert other.restore(stream, 1)["burst"] == pytest.approx((100 - 20 - 20) / 2, abs=1)
            another.wait_until_let_go()


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
        assert server.count("streamdrnn_refusals_total", code="unauthorised") == 5 + 4
        assert get(f"{server.http}/healthz")[0] == 200


def test_web_pages_connect_only_if_they_are_allowed(models: list[Path], tmp_path: Path) -> None:
    with running(models, tmp_path / "s", origins=["https://good.example"]) as server:
        with pytest.raises(InvalidStatus) as refusal:
            Wire(server.url, origin="https://bad.example")
        assert refusal.value.response.status_code == 403
        assert server.count("streamdrnn_refusals_total", code="forbidden_origin") == 1
        with Wire(server.url, origin="https://good.example") as wire:
            assert wire.open()["type"] == "opened"


def test_snapshots_on_request_are_paid_for_as_the_largest_messages(models: list[Path], tmp_path: Path) -> None:
    limits = Limits(streams=1, frame_steps=20, rate=0.01, burst_seconds=100_000.0)  # 100 steps, and hardly any later
    with running(models, tmp_path / "s", limits) as server, Wire(server.url) as wire:
        wire.open()
        for _ in range(5):
            wire.say(type="snapshot")
            assert wire.hear() == {"type": "snapshot", "seq": 0}
        wire.say(type="snapshot")
        refused(wire, Code.TOO_FAST, "expected at most 0.01 steps per second")
