"""The client, and what becomes of its stream when connections, servers and processes are lost."""

import asyncio
import json
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partialmethod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from websockets.asyncio.client import ClientConnection as AsyncConnection
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection
from websockets.sync.server import ServerConnection, serve

from streamdrnn.apps.serving.limits import Limits
from streamdrnn.client import RefusedError, connect, connect_async
from streamdrnn.client.blocking import Stream
from streamdrnn.client.protocol import Code
from tests.serving.servers import (
    Running,
    ServerProcess,
    assert_same,
    inputs,
    offline,
    running,
    write_certificate,
)
from tests.strategies import examples
from tests.waiting import PATIENCE, wait_for

ONE = np.zeros((1, 3), np.float32)


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


class ScriptedServer:
    """Takes connections one after the other, each for a function of its own; the last one takes all that follow."""

    def __init__(self, *behaviours: Callable[[ServerConnection], None]) -> None:
        self._behaviours = list(behaviours)
        self.connections = 0
        self._server = serve(self._behave, "127.0.0.1", 0, close_timeout=0.1)
        self.url = f"ws://127.0.0.1:{self._server.socket.getsockname()[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)

    def _behave(self, connection: ServerConnection) -> None:
        self.connections += 1
        with suppress(ConnectionClosed):
            self._behaviours[min(self.connections, len(self._behaviours)) - 1](connection)

    def __enter__(self) -> "ScriptedServer":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._thread.join()


OPENED = json.dumps(
    {"type": "opened", "stream": "s", "seq": 0, "window": 4, "max_frame": 9, "rate": 1e9, "burst_seconds": 1.0}
    | {"input_size": 3, "output_size": 2, "hop_length": 1}
)


def silent(connection: ServerConnection) -> None:
    connection.recv()
    connection.recv()


def opens_and_is_silent(connection: ServerConnection) -> None:
    connection.recv()
    connection.send(OPENED)
    while True:
        connection.recv()


def drops_after_each_input(connection: ServerConnection) -> None:
    connection.recv()
    connection.send(OPENED)
    connection.recv()
    connection.close()


def refuses(code: int) -> Callable[[ServerConnection], None]:
    def behave(connection: ServerConnection) -> None:
        connection.recv()
        connection.send(json.dumps({"type": "error", "code": code, "message": "no"}))
        connection.close(code, "no")

    return behave


@pytest.mark.parametrize("behaviour", [silent, opens_and_is_silent, drops_after_each_input])
@pytest.mark.parametrize("client", ["blocking", "asyncio"])
def test_servers_that_give_no_result_are_given_up(client: str, behaviour: Callable[[ServerConnection], None]) -> None:
    async def live(url: str) -> None:
        stream = await connect_async(url, "tagger", "features", give_up_after=1.0)
        await stream.push(ONE)

    with ScriptedServer(behaviour) as server:
        started = time.monotonic()
        with pytest.raises(ConnectionError, match="no server answers"):  # noqa: PT012 (either is asked for an answer)
            if client == "asyncio":
                asyncio.run(live(server.url))
            connect(server.url, "tagger", "features", give_up_after=1.0).push(ONE)
        assert 1 < time.monotonic() - started < 5
        assert server.connections < 20


def test_another_server_has_its_turn_before_all_is_given_up(server: Running, models: list[Path]) -> None:
    with (
        ScriptedServer(silent) as first,
        connect([first.url, server.url], "tagger", "features", give_up_after=3.0) as stream,
    ):
        assert_same(stream.push(inputs(5)), offline(models[0], inputs(5)))


def test_a_refusal_by_one_server_is_none_by_the_others(server: Running, models: list[Path]) -> None:
    for code in (Code.UNKNOWN_MODEL, Code.UNAUTHORISED, Code.UNKNOWN_STREAM):
        with ScriptedServer(refuses(code)) as other:
            with connect([other.url, server.url], "tagger", "features") as stream:
                lose_connection(stream)  # the other one is next in turn, and does not know the stream
                assert_same(stream.push(inputs(5)), offline(models[0], inputs(5)))
            assert other.connections == 2
            with pytest.raises(RefusedError, match="no") as refusal:
                connect([other.url, other.url], "tagger", "features")
            assert refusal.value.code == code
            with pytest.raises(RefusedError, match="no"):  # says more than that the other one does not answer
                connect([other.url, "ws://127.0.0.1:9"], "tagger", "features", give_up_after=0.5)


def test_a_client_that_was_too_fast_comes_back(models: list[Path], server: Running) -> None:
    with (
        ScriptedServer(refuses(Code.TOO_FAST)) as busy,
        connect([busy.url, server.url], "tagger", "features") as stream,
    ):
        assert_same(stream.push(inputs(5)), offline(models[0], inputs(5)))


def test_a_certificate_that_is_not_trusted_is_said_at_once(models: list[Path], tmp_path: Path) -> None:
    write_certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    with serve(silent, "127.0.0.1", 0, ssl=tls) as listening:
        thread = threading.Thread(target=listening.serve_forever)
        thread.start()
        started = time.monotonic()
        with pytest.raises(ConnectionError, match="the server's certificate is not trusted: self"):
            connect(f"wss://127.0.0.1:{listening.socket.getsockname()[1]}", "tagger")
        assert time.monotonic() - started < 10
        listening.shutdown()
        thread.join()


@pytest.mark.parametrize(("name", "least"), [("give_up_after", "above 0"), ("heartbeat", "0.5 s or more")])
def test_times_of_a_client_are_long_enough(name: str, least: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected {least}, got 0"):
        connect("ws://127.0.0.1:9", "tagger", **{name: 0})  # type: ignore[arg-type]


def test_what_is_no_server_of_streams_is_one_servers_refusal(server: Running, models: list[Path]) -> None:
    with connect([server.http.replace("http", "ws") + "/elsewhere", server.url], "tagger", "features") as stream:
        assert_same(stream.push(inputs(5)), offline(models[0], inputs(5)))


def test_a_stream_that_was_given_up_takes_no_more(server: Running) -> None:
    with ScriptedServer(opens_and_is_silent) as silent_one:
        stream = connect(silent_one.url, "tagger", "features", give_up_after=0.2)
        for _ in range(3):
            with pytest.raises(ConnectionError, match=r"no server answers: no answer within 0\.1 s"):
                stream.push(ONE)
        assert len(stream._exchange._unsaved) == 1


def test_a_close_that_was_cancelled_can_be_asked_for_again(server: Running) -> None:
    async def live() -> None:
        for _ in range(5):
            stream = await connect_async(server.url, "tagger", "features")
            closing = asyncio.create_task(stream.close())
            while not stream._exchange._asked_to_close:
                await asyncio.sleep(0)
            closing.cancel()
            with suppress(asyncio.CancelledError):
                await closing
            await stream.close()
            assert stream._exchange.finished
            assert stream._socket is None

    asyncio.run(live())
    server.wait_until_let_go()


@examples(6)
@given(st.lists(st.tuples(st.integers(0, 150), st.floats(0.0, 0.02), st.booleans()), min_size=5, max_size=15))
def test_whoever_is_cancelled_anywhere_goes_on(
    server: Running, models: list[Path], pushes: list[tuple[int, float, bool]]
) -> None:
    """Inputs of a push that had begun are part of the stream, whenever it was cancelled, connections lost or not."""
    sizes, times, cuts = zip(*pushes, strict=True)
    xs = [inputs(size, seed) for seed, size in enumerate(sizes)]
    want = np.split(offline(models[0], np.concatenate([*xs, inputs(20)])), np.cumsum(sizes))

    async def live() -> None:
        async with await connect_async(server.url, "tagger", "features") as stream:
            for x, seconds, cut, rows in zip(xs, times, cuts, want[:-1], strict=True):
                if cut and stream._socket is not None:
                    stream._socket.transport.abort()
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        assert_same(await stream.push(x), rows)
            assert_same(await stream.push(inputs(20)), want[-1])
            assert not stream._exchange._results
            assert not stream._exchange._unwanted

    asyncio.run(live())


def test_whoever_is_cancelled_while_he_sends_goes_on(
    server: Running, models: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a message was sent then nobody knows."""
    x = inputs(9)
    send = AsyncConnection.send

    async def live(really: bool) -> None:
        async def cancelled(connection: AsyncConnection, message: Any) -> None:
            if really:
                await send(connection, message)
            raise asyncio.CancelledError

        async with await connect_async(server.url, "tagger", "features") as stream:
            with monkeypatch.context() as patch:
                patch.setattr(AsyncConnection, "send", cancelled)
                with pytest.raises(asyncio.CancelledError):
                    await stream.push(x[:4])
            assert_same(await stream.push(x[4:]), offline(models[0], x)[4:])

    for really in (False, True):
        asyncio.run(live(really))


def test_whoever_is_interrupted_goes_on(server: Running, models: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C before each thing that a client does with its socket, one after the other."""
    x = inputs(30 * 20)
    want = offline(models[0], x)
    with connect(server.url, "tagger", "features") as stream:
        for number in range(30):
            part = slice(20 * number, 20 * number + 20)
            left = 1 + number % 6

            def interrupt(*arguments: Any, original: Callable[..., Any], **options: Any) -> Any:
                nonlocal left
                left -= 1
                if left == 0:
                    raise KeyboardInterrupt
                return original(*arguments, **options)

            with monkeypatch.context() as patch:
                for name in ("send", "recv"):
                    original = getattr(ClientConnection, name)
                    patch.setattr(ClientConnection, name, partialmethod(interrupt, original=original))
                if number % 2 and stream._socket is not None:
                    lose_connection(stream)
                with suppress(KeyboardInterrupt):
                    assert_same(stream.push(x[part]), want[part])
        stream.snapshot()
        stream.reset()
        assert_same(stream.push(x[:30]), want[:30])
        assert not stream._exchange._results


def test_a_stream_that_was_closed_says_so(server: Running) -> None:
    stream = connect(server.url, "tagger", "features")
    stream.close()
    stream.close()
    for call in (lambda: stream.push(ONE), stream.reset, stream.snapshot):
        with pytest.raises(ValueError, match="the stream is closed"):
            call()


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
