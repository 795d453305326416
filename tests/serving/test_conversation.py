"""Streams over real sockets: what they answer, to whom, and that nobody's numbers are another's."""

import socket
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from websockets.exceptions import ConnectionClosed

from streamdrnn import StreamingDRNN, load_model
from streamdrnn.apps.serving.limits import Limits
from streamdrnn.client.protocol import Code
from tests.serving.servers import Running, Wire, assert_same, inputs, offline, refused, running, tagger_file
from tests.waiting import PATIENCE


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


def test_a_connection_that_is_cut_frees_its_place(server: Running) -> None:
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        half.send(b"GET /v1/stream HTTP/1.1\r\nHost: x\r\nUpg")
    wire = Wire(server.url)
    wire.open()
    wire.socket.socket.shutdown(socket.SHUT_RDWR)
    server.wait_until_let_go()
    wire.close()


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
