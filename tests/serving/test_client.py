"""The client, and what becomes of its stream when connections, servers and processes are lost."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest

from streamdrnn.apps.serving.limits import Limits
from streamdrnn.client import RefusedError, connect, connect_async
from streamdrnn.client.blocking import Stream
from streamdrnn.client.protocol import Code
from tests.serving.servers import (
    Running,
    ServerProcess,
    assert_same,
    audio_file,
    inputs,
    offline,
    running,
    tagger_file,
)
from tests.waiting import PATIENCE, wait_for


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("models")
    return [tagger_file(folder), audio_file(folder)]


@pytest.fixture(scope="module")
def server(models: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running(models, tmp_path_factory.mktemp("store") / "streams.sqlite3", snapshot_seconds=0.05) as server:
        yield server


def lose_connection(stream: Stream) -> None:
    assert stream._socket is not None
    stream._socket.socket.shutdown(socket.SHUT_RDWR)


def test_the_client_is_light() -> None:
    script = "import sys, streamdrnn.client; print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert {"streamdrnn", "numpy", "websockets"} <= set(loaded)
    assert not {"torch", "safetensors", "librosa", "fastapi", "uvicorn", "pydantic"} & set(loaded)


def test_pushes_of_any_size_give_the_bits_of_the_whole(server: Running, models: list[Path]) -> None:
    x = inputs(5000)
    with connect(server.url, "tagger", "features") as stream:
        assert stream.model["output_size"] == 2
        parts = [stream.push(part) for part in np.split(x, [0, 1, 101, 102, 700])]
        assert [len(part) for part in parts] == [0, 1, 100, 1, 598, 4300]
        assert_same(np.concatenate(parts), offline(models[0], x))
        stream.snapshot()
        stream.reset()
        assert_same(stream.push(x[:30]), offline(models[0], x[:30]))


def test_samples(server: Running, models: list[Path]) -> None:
    samples = np.random.default_rng(1).integers(-32768, 32767, 2003).astype(np.int16)
    want = offline(models[1], samples.astype(np.float32) / 32768)
    with connect(server.url, "audio", "pcm16") as stream:
        assert_same(np.concatenate([stream.push(part) for part in np.split(samples, [1, 7, 900])]), want)
    with connect(server.url, "audio") as stream:
        assert_same(stream.push(samples / np.float32(32768)), want)


def test_the_asyncio_client(server: Running, models: list[Path]) -> None:
    async def live(seed: int) -> None:
        x = inputs(300, seed)
        async with await connect_async(server.url, "tagger", "features") as stream:
            assert stream.model["model"] == "tagger"
            parts = await asyncio.gather(*(stream.push(part) for part in np.split(x, [5, 5, 230])))
            assert_same(np.concatenate(parts), offline(models[0], x))
            await stream.snapshot()
            await stream.reset()
            assert_same(await stream.push(x), np.concatenate(parts))

    async def all_of_them() -> None:
        await asyncio.gather(*(live(seed) for seed in range(10)))

    asyncio.run(all_of_them())


def test_what_a_stream_cannot_take_is_refused_before_it_is_sent(server: Running) -> None:
    with connect(server.url, "tagger", "features") as stream:
        for wrong in (np.zeros((2, 4)), np.zeros(3), np.full((1, 3), np.nan)):
            with pytest.raises(ValueError, match="inputs: expected"):
                stream.push(wrong)
        assert stream.push(np.zeros((1, 3))).shape == (1, 2)
    with connect(server.url, "audio", "pcm16") as stream, pytest.raises(ValueError, match="expected int16 samples"):
        stream.push(np.zeros(3))
    with pytest.raises(ValueError, match="format: expected one of"):
        connect(server.url, "audio", "mp3")


def test_refusals_are_said_at_once(server: Running) -> None:
    with pytest.raises(RefusedError, match="model: expected one of") as refusal:
        connect(server.url, "another")
    assert refusal.value.code == Code.UNKNOWN_MODEL
    with pytest.raises(RefusedError, match="refused the connection"):
        connect(server.url + "/elsewhere", "tagger")
    with pytest.raises(ConnectionError, match="no server answers"):
        connect("ws://127.0.0.1:9", "tagger", give_up_after=0.1)


def test_a_refused_stream_ends_and_says_why(server: Running) -> None:
    stream = connect(server.url, "tagger", "features")
    assert stream._socket is not None
    stream._socket.send("nonsense")
    with pytest.raises(RefusedError, match="expected a JSON object"):
        stream.push(np.zeros((1, 3)))


def test_lost_connections_lose_no_result(server: Running, models: list[Path]) -> None:
    x, rng, rows = inputs(2000), np.random.default_rng(3), []
    with connect(server.url, "tagger", "features") as stream:
        for part in np.array_split(x, 40):
            if rng.random() < 0.4:
                lose_connection(stream)
            rows.append(stream.push(part))
    assert_same(np.concatenate(rows), offline(models[0], x))


def test_connections_lost_in_the_middle_of_a_push(server: Running, models: list[Path]) -> None:
    """With messages under way in both directions; cut again and again, whenever some results have come."""
    x = inputs(10000)
    stop, cuts = threading.Event(), 0
    with connect(server.url, "tagger", "features") as stream:

        def cut() -> None:
            nonlocal cuts
            last = 0
            while not stop.wait(0.001):
                held = stream._socket
                if held is not None and stream._exchange._ack > last + 10:
                    last, cuts = stream._exchange._ack, cuts + 1
                    with suppress(OSError):  # it is lost already
                        held.socket.shutdown(socket.SHUT_RDWR)

        thread = threading.Thread(target=cut)
        thread.start()
        try:
            y = stream.push(x)
        finally:
            stop.set()
            thread.join()
        assert_same(y, offline(models[0], x))
    assert cuts > 1


def test_a_client_paces_itself_to_the_servers_rate(models: list[Path], tmp_path: Path) -> None:
    limits = Limits(streams=1, rate=2000.0, burst_seconds=0.2)
    x = inputs(1000)
    with running(models, tmp_path / "s", limits) as server, connect(server.url, "tagger", "features") as stream:
        started = time.monotonic()
        assert_same(stream.push(x), offline(models[0], x))
        assert time.monotonic() - started > (1000 - 200) / 2000 - 0.05


def test_a_draining_server_hands_its_streams_on(models: list[Path], tmp_path: Path) -> None:
    """To another server with the same store, which makes the remaining steps and no others."""
    xs = [inputs(120, seed) for seed in range(5)]
    with running(models, tmp_path / "s") as first, running(models, tmp_path / "s") as second:
        streams = [connect([first.url, second.url], "tagger", "features") for _ in xs]
        rows = [[stream.push(x[:70])] for stream, x in zip(streams, xs, strict=True)]
        first.stop()
        assert first.count("streamdrnn_snapshots_total") >= 5
        for stream, x, got in zip(streams, xs, rows, strict=True):
            got.append(stream.push(x[70:]))
            stream.close()
        assert second.count("streamdrnn_steps_total", model="tagger") == 5 * 50
    for x, got in zip(xs, rows, strict=True):
        assert_same(np.concatenate(got), offline(models[0], x))


def test_processes_that_leave_and_that_are_killed(models: list[Path], tmp_path: Path) -> None:
    """Streams in full flow: one server is killed, the next is asked to leave, and the last finishes."""
    store = tmp_path / "streams.sqlite3"
    options = ("--store", store, "--snapshot-seconds", 0.1, "--port", 0)
    processes = [ServerProcess(models[0], *options) for _ in range(2)]
    urls = [process.url() for process in processes]
    xs = [inputs(1500, seed) for seed in range(4)]
    got: dict[int, np.ndarray] = {}
    done = [0] * len(xs)

    def live(k: int) -> None:
        rng, rows, at = np.random.default_rng(k), [], 0
        with connect([*urls, last.url], "tagger", "features") as stream:
            while at < len(xs[k]):
                n = int(rng.integers(1, 40))
                rows.append(stream.push(xs[k][at : at + n]))
                at += n
                done[k] = at
                time.sleep(0.002)
        got[k] = np.concatenate(rows)

    threads = [threading.Thread(target=live, args=(k,)) for k in range(len(xs))]
    with running(models, store) as last:
        try:
            for thread in threads:
                thread.start()
            wait_for(lambda: min(done) > 300)
            processes[0].kill()
            wait_for(lambda: min(done) > 800)
            processes[1].terminate()
            for thread in threads:
                thread.join(PATIENCE)
        finally:
            for process in processes:
                process.kill()
        assert last.count("streamdrnn_steps_total", model="tagger") > 0
    for k, x in enumerate(xs):
        assert_same(got[k], offline(models[0], x))
